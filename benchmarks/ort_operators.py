"""Which operators ONNX Runtime's CPU provider runs fastest, for the choices of the `ort` dialect.

    python -m benchmarks.ort_operators [--threads 2] [--keep]

Three comparisons at the widths of the 15B model: one decode step of cached attention (fused, or of standard operators),
the vision tower's attention (fused, or standard), and a chain of int4 products too large for the processor's caches, by
group size and accuracy level, with the error that rounding activations adds. Medians of milliseconds.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from benchmarks.record import add_options, publish
from phiedge.calibration.int4 import quantise_rtn
from phiedge.exporters.dialects.ort.packing import pack_matmul_nbits
from phiedge.exporters.rotary import rotary_tables

HEADS, KV_HEADS, HEAD_DIM, HIDDEN = 40, 10, 128, 5120
VISION_HEADS, VISION_WIDTH = 16, 1152
PRODUCTS = 20  # of 5120 x 5120: 260 MB at 4 bits and more, beyond any last-level cache
FLOAT, INT32, INT64 = ir.DataType.FLOAT, ir.DataType.INT32, ir.DataType.INT64


def port(name: str, *shape: int | str, dtype: ir.DataType = FLOAT) -> ir.Value:
    return ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(dtype))


def open_nodes(
    nodes: Sequence[ir.Node],
    inputs: Sequence[ir.Value],
    outputs: Mapping[str, ir.Value],
    threads: int,
    weights: Sequence[ir.Value] = (),
) -> ort.InferenceSession:
    """A session of these nodes alone; `outputs` names the values that leave the graph."""
    for name, value in outputs.items():
        value.name, value.type = name, ir.TensorType(FLOAT)
    imports = {"": 24, "com.microsoft": 1}
    graph = ir.Graph(inputs, list(outputs.values()), nodes=nodes, initializers=weights, opset_imports=imports, name="g")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    model = ir.serde.serialize_model(ir.Model(graph, ir_version=11)).SerializeToString()
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def median_ms(run: Callable[[], object], runs: int = 15) -> float:
    samples = []
    for _ in range(runs):
        begun_ns = time.perf_counter_ns()
        run()
        samples.append((time.perf_counter_ns() - begun_ns) / 1e6)
    return round(float(np.median(samples)), 3)


def bound(
    session: ort.InferenceSession, feeds: Mapping[str, np.ndarray], in_place: Mapping[str, str]
) -> Callable[[], object]:
    """A run with all inputs bound once; `in_place` gives the output that shares an input's buffer."""
    binding = session.io_binding()
    for name, array in feeds.items():
        value = ort.OrtValue.ortvalue_from_numpy(array)
        binding.bind_ortvalue_input(name, value)
        if name in in_place:
            binding.bind_ortvalue_output(in_place[name], value)
    for output in session.get_outputs():
        if output.name not in in_place.values():
            binding.bind_output(output.name, "cpu")
    return lambda: session.run_with_iobinding(binding)


def fused_step(capacity: int, past: int, threads: int) -> float:
    """One token through GroupQueryAttention with its cache in place."""
    cache = (1, KV_HEADS, "capacity", HEAD_DIM)
    tables = [port("cos", "m", HEAD_DIM // 2), port("sin", "m", HEAD_DIM // 2)]
    inputs = [port("qkv", 1, "t", (HEADS + 2 * KV_HEADS) * HEAD_DIM), port("pk", *cache), port("pv", *cache)]
    inputs += [port("seqlens_k", 1, dtype=INT32), port("total", dtype=INT32), *tables]
    node = ir.node(
        "GroupQueryAttention",
        [inputs[0], None, None, *inputs[1:]],
        {"num_heads": HEADS, "kv_num_heads": KV_HEADS, "do_rotary": 1},
        domain="com.microsoft",
        num_outputs=3,
    )
    session = open_nodes([node], inputs, dict(zip(("rows", "k", "v"), node.outputs, strict=True)), threads)
    cos, sin = rotary_tables(HEAD_DIM, 5e5, capacity)
    feeds = {
        "qkv": np.ones((1, 1, (HEADS + 2 * KV_HEADS) * HEAD_DIM), np.float32),
        "pk": np.zeros((1, KV_HEADS, capacity, HEAD_DIM), np.float32),
        "pv": np.zeros((1, KV_HEADS, capacity, HEAD_DIM), np.float32),
        "seqlens_k": np.array([past], np.int32),
        "total": np.array(past + 1, np.int32),
        "cos": cos,
        "sin": sin,
    }
    return median_ms(bound(session, feeds, {"pk": "k", "pv": "v"}))


def standard_step(capacity: int, past: int, threads: int) -> float:
    """The same in opset 24: TensorScatter into the cache in place, then Attention over its valid rows; not rotated."""
    inputs = [
        port("q", 1, HEADS, 1, HEAD_DIM),
        port("kn", 1, KV_HEADS, 1, HEAD_DIM),
        port("vn", 1, KV_HEADS, 1, HEAD_DIM),
    ]
    inputs += [port(name, 1, KV_HEADS, capacity, HEAD_DIM) for name in ("pk", "pv")]
    inputs += [port("at", 1, dtype=INT64), port("length", 1, dtype=INT64)]
    q, new_key, new_value, past_key, past_value, at, length = inputs
    keys = ir.node("TensorScatter", [past_key, new_key, at], {"axis": 2})
    values = ir.node("TensorScatter", [past_value, new_value, at], {"axis": 2})
    attention = ir.node("Attention", [q, keys.outputs[0], values.outputs[0], None, None, None, length])
    outputs = {"rows": attention.outputs[0], "k": keys.outputs[0], "v": values.outputs[0]}
    session = open_nodes([keys, values, attention], inputs, outputs, threads)
    shapes = {value.name: tuple(value.shape.numpy()) for value in inputs[:5]}
    feeds = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    feeds |= {"at": np.array([past], np.int64), "length": np.array([past + 1], np.int64)}
    return median_ms(bound(session, feeds, {"pk": "k", "pv": "v"}))


def vision_attention(op_type: str, patches: int, threads: int) -> float:
    """Full attention of one image."""
    standard = op_type == "Attention"
    heads = {"q_num_heads": VISION_HEADS, "kv_num_heads": VISION_HEADS} if standard else {"num_heads": VISION_HEADS}
    inputs = [port(name, 1, "n", VISION_WIDTH) for name in "qkv"]
    node = ir.node(op_type, inputs, heads, domain="" if standard else "com.microsoft")
    session = open_nodes([node], inputs, {"rows": node.outputs[0]}, threads)
    x = np.random.default_rng(0).standard_normal((1, patches, VISION_WIDTH), dtype=np.float32)
    return median_ms(lambda: session.run(None, dict.fromkeys("qkv", x)), runs=7)


def products(group_size: int, accuracy_level: int, threads: int) -> dict[str, float]:
    """A chain of int4 products for one row, and the relative error of one of them, with and without outliers."""
    random = np.random.default_rng(0)
    weight = random.standard_normal((HIDDEN, HIDDEN), dtype=np.float32) * np.float32(HIDDEN**-0.5)
    x = random.standard_normal((1, HIDDEN), dtype=np.float32)
    rows = port("x", "t", HIDDEN)
    nodes, weights = [], []
    for index in range(PRODUCTS):
        quantised = quantise_rtn(np.roll(weight, index, axis=0), group_size)
        packed = [
            ir.Value(name=f"{part}{index}", const_value=ir.tensor(array))
            for part, array in zip(("codes", "scales"), pack_matmul_nbits(quantised), strict=True)
        ]
        before = nodes[-1].outputs[0] if nodes else rows
        sizes = {"K": HIDDEN, "N": HIDDEN, "bits": 4, "block_size": group_size, "accuracy_level": accuracy_level}
        nodes.append(ir.node("MatMulNBits", [before, *packed], sizes, domain="com.microsoft"))
        weights += packed
    outputs = {"first": nodes[0].outputs[0], "last": nodes[-1].outputs[0]}
    session = open_nodes(nodes, [rows], outputs, threads, weights)

    exact = quantise_rtn(weight, group_size).dequantise().T
    with_outliers = x.copy()
    with_outliers[:, [7, 900, 4000]] *= 100

    def error(row: np.ndarray) -> float:
        found, wanted = session.run(["first"], {"x": row})[0], row @ exact
        return round(float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted)), 5)

    step_ms = median_ms(lambda: session.run(["last"], {"x": x}))
    size_bytes = PRODUCTS * HIDDEN * HIDDEN * (0.5 + 4 / group_size)
    return {
        "chain_ms": step_ms,
        "weights_gbps": round(size_bytes / step_ms / 1e6, 1),
        "added_error": error(x),
        "added_error_with_outliers": error(with_outliers),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare operators of ONNX Runtime on this processor.")
    parser.add_argument("--threads", type=int, default=2)
    add_options(parser)
    options = parser.parse_args()
    threads = options.threads
    found = {
        "decode_attention_ms": [
            {
                "capacity": capacity,
                "past": past,
                "fused": fused_step(*case, threads),
                "standard": standard_step(*case, threads),
            }
            for case in ((1024, 64), (4096, 64), (4096, 1000), (16384, 64), (16384, 1000))
            for capacity, past in [case]
        ],
        "vision_attention_ms": [
            {"patches": n} | {name: vision_attention(name, n, threads) for name in ("MultiHeadAttention", "Attention")}
            for n in (256, 1024, 2304)
        ],
        "int4_products": [
            {"group_size": size, "accuracy_level": level} | products(size, level, threads)
            for size, level in ((32, 1), (32, 4), (64, 4), (128, 4))
        ],
    }
    publish("ort-operators", {"threads": threads}, found, keep=options.keep)


if __name__ == "__main__":
    main()
