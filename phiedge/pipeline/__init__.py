"""From a checkpoint to a bundle: the stages in their order. Each stage lives in a package of its own; this one only joins them."""

from phiedge.pipeline.exporting import export

__all__ = ["export"]
