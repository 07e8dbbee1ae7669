"""What is in a bundle: its parts, graphs, layers and engines, read without ONNX, a GPU or the weights themselves.

report.py        the whole, and JSON              graphs.py        operators, inputs and outputs, memory
parts.py         files with bytes and hashes      layers.py        how each linear layer is stored
extents.py       what dialects share              quantisation.py  what that cost
engines.py       what was built                   usability.py     whether it serves this machine
"""

from phiedge.pipeline.inspection.report import PART_NAMES, Inspection, check_parts, inspect_bundle, only

__all__ = ["PART_NAMES", "Inspection", "check_parts", "inspect_bundle", "only"]
