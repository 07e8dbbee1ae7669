"""Tracing the vision and decoder modules to ONNX, without a weight in memory.

The modules are built and exported under `FakeTensorMode`: parameters have shapes and types, but no storage, so the 15B
traces in a few hundred MB. What comes out is a graph whose initializers are named as the parameters and hold no
values; a dialect maps its operators, and `weights.py` fills it.

Two things of the exporter are avoided on purpose. `torch.onnx.export(optimize=True)` reads weights, and where they are
external folds every `Transpose(weight)` into a constant in memory, the whole model with it; so `optimize=False`, and
constants are folded here only after the weights have lost their values. And its metadata names files of the machine it
ran on; all of it is dropped but the module that a node came from.
"""

import ast
import inspect
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import onnx
import onnx_ir as ir
import torch
from onnx_ir.passes import common as passes
from onnxscript import values
from onnxscript.optimizer import fold_constants
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import Dim

from phiedge.errors import ExportError
from phiedge.exporters.attention_op import NAMESPACE
from phiedge.exporters.config import ModelConfig
from phiedge.exporters.decoder import Decoder
from phiedge.exporters.graph_io import CAPACITY, CHUNK, PATCHES, GraphIO, Port, decoder_io, vision_io
from phiedge.exporters.precision import FloatType
from phiedge.exporters.vision import VisionEncoder

OPSET = 23  # the first with RMSNormalization and Attention
CACHED_ATTENTION = "CachedAttention"  # the custom operator's name in a traced graph, in the domain NAMESPACE
SCOPE = "phiedge.scope"  # metadata of a node: the path of the module that it came from
TORCH_DTYPES: Mapping[FloatType, torch.dtype] = {"float32": torch.float32, "float16": torch.float16}

AxisDims: TypeAlias = dict[int, Any]  # axis of a port to its torch.export.Dim

_SCOPES_OF_TORCH = "pkg.torch.onnx.name_scopes"
# Unremarkable and unequal; the graph must not depend on them.
_EXAMPLE_SIZES = {PATCHES: 7, CHUNK: 5, CAPACITY: 11}


def trace_vision(config: ModelConfig, dtype: FloatType, *, norms: FloatType | None = None) -> ir.Model:
    """Trace `VisionEncoder`, computing in `dtype`, and in `norms` along the residual if that is given."""
    norms_dtype = TORCH_DTYPES[norms or dtype]
    return _trace(lambda: VisionEncoder(config, norms=norms_dtype), vision_io(config), dtype)


def trace_decoder(
    config: ModelConfig, dtype: FloatType, *, norms: FloatType | None = None, max_context: int
) -> ir.Model:
    """Trace `Decoder` as `trace_vision` does, with rotary tables for `max_context` positions."""
    norms_dtype = TORCH_DTYPES[norms or dtype]
    return _trace(lambda: Decoder(config, max_context=max_context, norms=norms_dtype), decoder_io(config), dtype)


def _trace(build: Callable[[], nn.Module], io: GraphIO, dtype: FloatType) -> ir.Model:
    _register_schema()
    axes = {name: Dim(name, min=1) for name in _EXAMPLE_SIZES}
    dynamic = [{index: axes[name] for index, name in port.dynamic_axes.items()} for port in io.inputs]
    with _default_dtype(TORCH_DTYPES[dtype]), _quiet(), FakeTensorMode():
        module = build().eval()
        example = tuple(_example(port) for port in io.inputs)
        exported = torch.export.export(module, example, dynamic_shapes=_by_parameter(module, dynamic), strict=False)
        program = torch.onnx.export(
            exported,
            input_names=[port.name for port in io.inputs],
            output_names=[port.name for port in io.outputs],
            opset_version=OPSET,
            dynamo=True,
            optimize=False,
            verbose=False,
            custom_translation_table={torch.ops.phiedge.cached_attention.default: _translate_cached_attention},
        )
    if program is None:
        raise ExportError("torch.onnx.export gave no program", remedy="install the torch that constraints.txt names")
    model = program.model
    model.graph.name = io.name
    model.producer_name, model.producer_version = "phiedge", None
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    _forget_values(model.graph)
    _keep_scopes(model.graph)
    _fold(model)
    _name_axes(model.graph, io)
    return model


def _example(port: Port) -> Tensor:
    dtype = torch.int32 if port.dtype == "int32" else torch.get_default_dtype()
    return torch.empty(port.sized(_EXAMPLE_SIZES), dtype=dtype)


def _by_parameter(module: nn.Module, dynamic: Sequence[AxisDims]) -> dict[str, Any]:
    """The dynamic axes by parameter of `forward`, which is how torch wants them; `*past` takes all that are left."""
    by_parameter: dict[str, Any] = {}
    left = list(dynamic)
    for parameter in inspect.signature(module.forward).parameters.values():
        rest = parameter.kind is inspect.Parameter.VAR_POSITIONAL
        by_parameter[parameter.name] = tuple(left) if rest else left.pop(0)
    return by_parameter


def _register_schema() -> None:
    """Let ONNX know the custom operator; the exporter refuses operators without a schema."""
    if onnx.defs.has(CACHED_ATTENTION, NAMESPACE):
        return
    schema = onnx.defs.OpSchema
    tensors = {"qkv": "T", "past_key": "T", "past_value": "T", "seqlens_k": "I", "total_sequence_length": "I"}
    tensors |= {"cos_cache": "T", "sin_cache": "T"}
    onnx.defs.register_schema(
        schema(
            CACHED_ATTENTION,
            NAMESPACE,
            1,
            inputs=[schema.FormalParameter(name, kind) for name, kind in tensors.items()],
            outputs=[schema.FormalParameter(name, "T") for name in ("rows", "present_key", "present_value")],
            type_constraints=[("T", ["tensor(float)", "tensor(float16)"], ""), ("I", ["tensor(int32)"], "")],
            attributes=[
                schema.Attribute("num_heads", schema.AttrType.INT, required=True),
                schema.Attribute("kv_heads", schema.AttrType.INT, required=True),
                schema.Attribute("scale", schema.AttrType.FLOAT, required=True),
            ],
        )
    )


def _translate_cached_attention(*tensors: Any, **attributes: Any) -> Any:
    """The custom operator's node; called by the exporter with the arguments of `cached_attention`."""
    names = ("num_heads", "kv_heads", "scale")
    operands, scalars = tensors[:7], dict(zip(names, tensors[7:], strict=False)) | attributes
    return values.Opset(NAMESPACE, 1).CachedAttention(*operands, **scalars)


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Build modules and inputs in `dtype`; fake parameters cannot be converted afterwards."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what torch tells its own developers (torchvision is absent, a call of its own is deprecated) to itself."""
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")
    before = registration.level
    registration.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
            yield
    finally:
        registration.setLevel(before)


def _forget_values(graph: ir.Graph) -> None:
    for initializer in graph.initializers.values():
        initializer.const_value = None


def _keep_scopes(graph: ir.Graph) -> None:
    """Replace the exporter's metadata by one entry, the innermost module that the node came from."""
    for node in graph:
        scopes = ast.literal_eval(node.metadata_props.get(_SCOPES_OF_TORCH, "['', '']"))
        node.metadata_props.clear()
        node.metadata_props[SCOPE] = scopes[-2]
        node.doc_string = None
        for output in node.outputs:
            output.metadata_props.clear()
    for value in (*graph.inputs, *graph.initializers.values()):
        value.metadata_props.clear()


def _fold(model: ir.Model) -> None:
    """Fold what is constant without weights (slice bounds, splits into lists) and drop what nothing uses."""
    fold_constants(model, onnx_shape_inference=False)
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    _share_constants(model.graph)
    passes.CommonSubexpressionEliminationPass()(model)
    passes.RemoveUnusedNodesPass()(model)
    _scope_new_nodes(model.graph)


def _share_constants(graph: ir.Graph) -> None:
    """Let equal constants be one; weights have no values here and are never touched."""
    kept: dict[tuple[object, ...], ir.Value] = {}
    for name, value in list(graph.initializers.items()):
        if value.const_value is None:
            continue
        array = value.const_value.numpy()
        first = kept.setdefault((array.dtype, array.shape, array.tobytes()), value)
        if first is not value:
            value.replace_all_uses_with(first)
            graph.initializers.pop(name)
    for index, value in enumerate(kept.values()):
        value.name = f"constant.{index}"


def _scope_new_nodes(graph: ir.Graph) -> None:
    """Nodes made by folding belong to the module around the node that feeds them."""
    for node in graph:
        if SCOPE not in node.metadata_props:
            before = next((value.producer() for value in node.inputs if value is not None), None)
            scope = before.metadata_props[SCOPE] if before is not None else ""
            node.metadata_props[SCOPE] = scope.rpartition(".")[0]


def _name_axes(graph: ir.Graph, io: GraphIO) -> None:
    """Call dynamic axes by their names in all shapes, instead of by torch's symbols."""
    names: dict[str | None, str] = {}
    for value, port in zip(graph.inputs, io.inputs, strict=True):
        assert value.shape is not None, value.name
        for index, name in port.dynamic_axes.items():
            symbol = value.shape[index]
            assert isinstance(symbol, ir.SymbolicDim), f"{value.name}: axis {index} was specialised to {symbol}"
            names[symbol.value] = name
    for value in (*graph.inputs, *(output for node in graph for output in node.outputs)):
        if value.shape is not None:
            value.shape = ir.Shape(
                names.get(dim.value, dim.value) if isinstance(dim, ir.SymbolicDim) else dim for dim in value.shape
            )
