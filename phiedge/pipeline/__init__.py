"""From a checkpoint to a bundle: the stages in their order, each of which lives in a package of its own.

exporting.py     the order of it all
contents.py      what is written into the bundle, and its manifest
comparison.py    two precisions of one model beside each other
report.py        quantization.json
"""

from phiedge.pipeline.exporting import export

__all__ = ["export"]
