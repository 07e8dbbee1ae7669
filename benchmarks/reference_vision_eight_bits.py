"""What a vision encoder in 8 bits would cost the reference model: features, and answers beside the encoder as it is.

    python -m benchmarks.reference_vision_eight_bits [--per-task 1000] [--keep]

No bundle has such an encoder. Here the vision graph of a bundle at fp32 is rewritten: the input of every product of
tower and projector is rounded under one static scale, found on builtin pictures, and every row of its weight under the
one that covers it. ONNX Runtime multiplies in float32. The decoder stays fp32, so the encoder alone is measured.
"""

import argparse
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper, numpy_helper

from benchmarks.record import add_options, publish
from benchmarks.reference_eight_bits import beside, right_answers
from phiedge.bundle import Bundle, FileEntry, hash_file
from phiedge.bundle.manifest import MANIFEST_NAME
from phiedge.calibration.eight_bits import LARGEST, Format, rounded, static_scale
from phiedge.calibration.samples import Picture
from phiedge.exporters.checkpoint import open_checkpoint
from phiedge.pipeline import export
from phiedge.pipeline.builtin_examples import builtin_examples
from phiedge.pipeline.calibration_samples import SampleBuilder
from phiedge.reference.evaluate import SUITE

_FORMS: tuple[Format, ...] = ("float8", "int8")
_CODES = {"float8": TensorProto.FLOAT8E4M3FN, "int8": TensorProto.INT8}
_EXAMPLES = 48  # of which every eighth is held out


def products(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Everything that multiplies by a weight."""
    return [node for node in model.graph.node if node.op_type == "Gemm"]


def pictures(*, held_out: bool) -> Iterator[Picture]:
    """The pictures that scales are found on, or those that judge."""
    with open_checkpoint("reference") as source:
        config = source.config
        made = builtin_examples(patch_size=config.patch_size, max_patches=config.max_num_patches, count=_EXAMPLES)
        for sample in SampleBuilder(source, max_context=2048).build(list(made)):
            if sample.held_out == held_out:
                yield from sample.load()


def run(model: onnx.ModelProto, outputs: Sequence[str], picture: Picture) -> dict[str, np.ndarray]:
    """The values called `outputs` for one picture."""
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_inputs()]
    values = session.run(list(outputs), dict(zip(names, (picture.patches, picture.positions), strict=True)))
    return dict(zip(outputs, values, strict=True))


def input_scales(model: onnx.ModelProto, form: Format) -> dict[str, float]:
    """The scale of the input of every product, by its name."""
    inputs = list(dict.fromkeys(node.input[0] for node in products(model)))
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    known = {port.name for port in model.graph.input}
    opened.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in inputs if name not in known
    )
    rows: dict[str, list[np.ndarray]] = {name: [] for name in inputs}
    for picture in pictures(held_out=False):
        found = run(opened, [name for name in inputs if name not in known], picture)
        for name in inputs:
            rows[name].append(found.get(name, picture.patches))
    scales = {}
    for name, parts in rows.items():
        x = torch.from_numpy(np.concatenate([part.reshape(-1) for part in parts]))
        scales[name] = static_scale(x, float(x.abs().max()), form).scale
    return scales


def in_eight_bits(model: onnx.ModelProto, form: Format, scales: Mapping[str, float]) -> onnx.ModelProto:
    """The same graph with inputs and weights of all products rounded."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    weights = {value.name: value for value in made.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for place, node in enumerate(made.graph.node):
        if node.op_type == "Gemm":
            weight = torch.from_numpy(numpy_helper.to_array(weights[node.input[1]]).copy())
            rows = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / LARGEST[form]
            weights[node.input[1]].CopyFrom(numpy_helper.from_array(rounded(weight, rows, form).numpy(), node.input[1]))
            scale = f"scale.{place}"
            made.graph.initializer.append(numpy_helper.from_array(np.float32(scales[node.input[0]]), scale))
            coded, read = f"coded.{place}", f"read.{place}"
            nodes.append(helper.make_node("QuantizeLinear", [node.input[0], scale], [coded], output_dtype=_CODES[form]))
            nodes.append(helper.make_node("DequantizeLinear", [coded, scale], [read]))
            node.input[0] = read
        nodes.append(node)
    ordered = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del made.graph.node[:]
    made.graph.node.extend(ordered)
    return made


def feature_error(wanted: onnx.ModelProto, found: onnx.ModelProto) -> float:
    """|f' - f|^2 / |f|^2 over held-out pictures."""
    name = wanted.graph.output[0].name
    error = size = 0.0
    for picture in pictures(held_out=True):
        a, b = run(wanted, [name], picture)[name], run(found, [name], picture)[name]
        error += float(np.square(b - a).sum())
        size += float(np.square(a).sum())
    return error / size


def with_vision(bundle: Bundle, model: onnx.ModelProto, directory: Path) -> Bundle:
    """A copy of the bundle with another vision graph, which holds its weights itself."""
    shutil.copytree(bundle.path, directory)
    name = bundle.manifest.dialects["ort"].vision
    (directory / name).write_bytes(model.SerializeToString())
    entry = FileEntry(sha256=hash_file(directory / name), bytes=(directory / name).stat().st_size)
    manifest = replace(bundle.manifest, files=dict(bundle.manifest.files) | {name: entry})
    (directory / MANIFEST_NAME).write_bytes(manifest.to_bytes())
    return Bundle.open(directory)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure a vision encoder in 8 bits on the reference model.")
    parser.add_argument("--per-task", type=int, default=1000, help="questions of each of the six tasks")
    add_options(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        bundle = export(target="cpu", precision="fp32", output=Path(work) / "fp32")
        model = onnx.load(bundle.file(bundle.manifest.dialects["ort"].vision))
        wanted = right_answers(bundle, per_task=options.per_task)
        found: dict[str, object] = {"as it is": {"overall": sum(wanted) / len(wanted), "asked": len(wanted)}}
        for form in _FORMS:
            made = in_eight_bits(model, form, input_scales(model, form))
            right = right_answers(with_vision(bundle, made, Path(work) / form), per_task=options.per_task)
            found[form] = {
                "overall": sum(right) / len(right),
                "asked": len(right),
                "feature_error": feature_error(model, made),
                "beside": beside(wanted, right),
            }
            print(form, found[form], flush=True)
    publish("reference-vision-eight-bits", {"suite": SUITE, "per_task": options.per_task}, found, keep=options.keep)


if __name__ == "__main__":
    main()
