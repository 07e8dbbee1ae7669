"""What stands in for `tensorrt_edgellm.scripts.export`: it does what the real one does, or fails as was seen.

It runs in a process of its own and knows nothing of phiedge. `behaviour` beside it says how it behaves, `recorded` is
the directory of what the real one wrote. Where it works it fills the recorded graph with the weights of the checkpoint
that it is given, in the order of the real kernels, place by place.
"""

import gzip
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
NORMS = ("input_layernorm", "post_attention_layernorm")


def main() -> None:
    checkpoint, out = Path(sys.argv[1]), Path(sys.argv[2]) / "llm"
    behaviour = (HERE / "behaviour").read_text()
    recorded = Path((HERE / "recorded").read_text())
    (HERE / "started").write_text(f"{os.getpid()} {os.environ.get('CUDA_VISIBLE_DEVICES')!r}")
    if behaviour == "is killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour == "hangs":
        print("Loaded 95 tensors, skipped 0 from", checkpoint, flush=True)
        signal.pause()
    if behaviour == "fails":
        raise IndexError("list index out of range")
    if behaviour == "fills the disk":
        raise OSError(28, "No space left on device", "model.onnx.data")
    log = (recorded / "checkpoint.log").read_text()
    if behaviour == "skips":
        log = log.replace("Loaded 95 tensors, skipped 0", "Loaded 7 tensors, skipped 42")
    if behaviour == "leaves out":
        log = (recorded / "fused.log").read_text()
    if behaviour != "writes nothing":
        write(checkpoint, out, recorded, behaviour)
    print(log, end="")


def write(checkpoint: Path, out: Path, recorded: Path, behaviour: str) -> None:
    out.mkdir(parents=True)
    tensors = read(checkpoint / "model.safetensors")
    config = json.loads((recorded / "config.json").read_bytes())
    if behaviour == "is of another model":
        config["hidden_size"] *= 2
    (out / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"):
        shutil.copy(checkpoint / name, out)
    (out / "model.onnx").write_bytes(gzip.decompress((recorded / "graph.onnx.gz").read_bytes()))
    rows = json.loads((recorded / "weights.json").read_bytes())
    (out / "model.onnx.data").write_bytes(filled(rows, tensors, corrupt=behaviour == "corrupts a weight"))
    write_safetensors(out / "embedding.safetensors", "embedding", tensors["model.embed_tokens.weight"])


def filled(rows: list[dict], tensors: dict[str, np.ndarray], *, corrupt: bool) -> bytes:
    layers = sum(name.endswith("input_layernorm.weight") for name in tensors)
    norms = [tensors[f"model.layers.{layer}.{norm}.weight"] for layer in range(layers) for norm in NORMS]
    norms.append(tensors["model.norm.weight"])
    data = bytearray()
    for row in sorted(rows, key=lambda row: row["offset"]):
        data += bytes(row["offset"] - len(data))
        name = row["name"].removeprefix("_model.")
        if "hex" in row:
            data += bytes.fromhex(row["hex"])
        elif name.endswith(".qweight"):
            stored = packed(unpack_awq(tensors[name]).T)
            if corrupt:
                stored[0] += 1
                corrupt = False
            data += stored.tobytes()
        elif name in tensors:
            data += tensors[name].astype(np.float16).tobytes()
        else:  # norms lose their names; they keep their order in the graph
            data += norms[row["norm"]].astype(np.float16).tobytes()
    return bytes(data)


def unpack_awq(qweight: np.ndarray) -> np.ndarray:
    """Codes plus 8, [in, out]."""
    codes = np.zeros((qweight.shape[0], qweight.shape[1] * 8), dtype=np.uint8)
    for nibble, output in enumerate(AWQ_ORDER):
        codes[:, output::8] = (qweight.view(np.uint32) >> np.uint32(4 * nibble)) & 15
    return codes


def packed(codes: np.ndarray) -> np.ndarray:
    """Codes plus 8 [n, k] in the order of the kernels: the place of each is computed, one by one."""
    n, k = np.indices(codes.shape)
    tiles = -(-codes.shape[1] // 64)
    block, in_block = n // 128, n % 128
    row = ((block * tiles + k // 64) * 4 + k % 64 // 16) * 2 + in_block // 64
    word = in_block % 32 * 4 + k % 8 // 2
    nibble = k % 2 * 4 + in_block % 64 // 32 * 2 + k % 16 // 8
    words = np.full((-(-codes.shape[0] // 128) * tiles * 8, 128, 8), 8, dtype=np.uint8)
    words[row, word, nibble] = codes
    return (words[..., 0::2] | words[..., 1::2] << 4).reshape(len(words), 512)


def read(path: Path) -> dict[str, np.ndarray]:
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    kinds = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "I32": "<i4"}
    found = {}
    for name, entry in json.loads(data[8 : 8 + length]).items():
        if name != "__metadata__":
            first, stop = (8 + length + offset for offset in entry["data_offsets"])
            array = np.frombuffer(data[first:stop], kinds[entry["dtype"]]).reshape(entry["shape"])
            if entry["dtype"] == "BF16":
                array = (array.astype(np.uint32) << 16).view(np.float32)
            found[name] = array
    return found


def write_safetensors(path: Path, name: str, array: np.ndarray) -> None:
    values = array.astype(np.float16)
    header = json.dumps({name: {"dtype": "F16", "shape": values.shape, "data_offsets": [0, values.nbytes]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + values.tobytes())
