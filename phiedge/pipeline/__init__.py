"""What joins the parts: from a checkpoint to a bundle, and from a bundle to its engines.

exporting.py         the order of an export
contents.py          what is written into the bundle, and its manifest
golden_questions.py  what every bundle is asked when it is made
comparison.py        two precisions of one model beside each other
report.py            quantization.json, and report_page/ as a page to look at
report_agreement.py  whether it tells of the weights that are there
mixing.py            more bits for the linears that need them most
repacking.py         checkpoints for other engines, beside a bundle or later
building.py          an engine, built and tried; it needs neither torch nor ONNX
building_tensorrt.py TensorRT's engines, for GPUs that are elsewhere
building_tensorrt_llm.py what TensorRT-LLM takes, built or loaded where it is
building_edge_llm.py what Edge-LLM builds engines from on the device, held to the bundle's numbers in edge_llm/
whole_bundle.py      that no engine is made of a damaged bundle
inspection/          what is in a bundle; it needs neither of them, nor the weights

Each is imported when it is asked for: a device that builds an engine has nothing that an export needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from phiedge.pipeline.building import build
    from phiedge.pipeline.exporting import export
    from phiedge.pipeline.repacking import repack

__all__ = ["build", "export", "repack"]

_HOMES = {
    "build": "phiedge.pipeline.building",
    "export": "phiedge.pipeline.exporting",
    "repack": "phiedge.pipeline.repacking",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'phiedge.pipeline' has no attribute {name!r}")
    value: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
