"""What several test directories share: a bundle small enough to read at a glance and right in all but its graphs, and
real exports of the reference model and of the oracle's checkpoint.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fake_checkpoints import write_checkpoint
from phiedge.bundle import (
    Bundle,
    BundleWriter,
    Dialect,
    Generation,
    Manifest,
    ModelFacts,
    ModelSource,
    Precision,
    Table,
)

# torch would take all cores for products of a few rows, in every worker of xdist at once, and spin while it waits; it
# reads this when it is imported, here and in processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

FACTS = ModelFacts(
    model_type="phi4-siglip",
    vocab_size=16,
    hidden_size=8,
    num_layers=1,
    num_heads=2,
    num_kv_heads=1,
    head_dim=4,
    intermediate_size=8,
    rms_norm_eps=1e-5,
    rope_theta=500000.0,
    max_position_embeddings=64,
    publisher_max_length=32,
    vision_hidden_size=4,
    vision_layers_used=1,
    vision_heads=2,
    vision_intermediate_size=8,
    patch_size=16,
    position_grid=2,
    min_num_patches=1,
    max_num_patches=4,
    bos_token_id=0,
    eos_token_ids=(1,),
    pad_token_id=2,
    think_token_id=3,
    end_think_token_id=4,
    nothink_token_id=5,
    generation=Generation(do_sample=True, temperature=0.8, top_p=0.95),
)

MANIFEST = Manifest(
    phiedge_version="0.1.0",
    model=ModelSource(name="tiny", source="directory", id=None, revision=None, files={}),
    facts=FACTS,
    precision=Precision(
        name="int4",
        vision="float16",
        projector="float16",
        decoder="int4",
        lm_head="int8",
        embed_tokens="float32",
        norms="float32",
        group_size=32,
        codes="offset",
        cache=None,
    ),
    dialects={
        "ort": Dialect(
            vision="vision.ort.onnx",
            decoder="decoder.ort.onnx",
            opset=21,
            max_context=64,
            activations="float32",
        )
    },
    embed_tokens=Table(file="embed_tokens.bin", dtype="float32", shape=(16, 8)),
    positions=Table(file="position_table.bin", dtype="float32", shape=(4, 4)),
    tokenizer="tokenizer.json",
    chat_template="chat_template.jinja",
    target={"name": "cpu", "memory_bytes": None},
    tools={"torch": "2.13.0"},
    goldens=None,
    quantization=None,
)

CONTENTS = {
    "vision.ort.onnx": b"vision graph",
    "decoder.ort.onnx": b"decoder graph",
    "embed_tokens.bin": bytes(16 * 8 * 4),
    "position_table.bin": bytes(4 * 4 * 4),
    "tokenizer.json": b"{}",
    "chat_template.jinja": b"",
}


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_is_heard() -> None:
    """SIGINT as Python handles it at its start, here and in all processes that tests start.

    In the background of a shell it is ignored, and processes pass that on.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def ctrl_c_is_handled_as_before() -> Iterator[None]:
    """No test leaves a handler of its own to those behind it."""
    yield
    left = signal.signal(signal.SIGINT, signal.default_int_handler)
    assert left is signal.default_int_handler


@pytest.fixture
def plain_manifest() -> Manifest:
    """A manifest that holds together; its `files` are empty, as `BundleWriter.commit` takes it."""
    return MANIFEST


@pytest.fixture
def fill_plain_bundle() -> Callable[[Path], None]:
    """Writes the files that `plain_manifest` names into a directory."""

    def fill(directory: Path) -> None:
        for name, data in CONTENTS.items():
            (directory / name).write_bytes(data)

    return fill


@pytest.fixture
def plain_bundle(tmp_path: Path, plain_manifest: Manifest, fill_plain_bundle: Callable[[Path], None]) -> Bundle:
    with BundleWriter(tmp_path / "bundle") as writer:
        fill_plain_bundle(writer.path)
        return writer.commit(plain_manifest)


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A bundle, and what `phiedge export --json` said about it."""

    path: Path
    told: dict[str, Any]


@pytest.fixture(scope="session")
def reference_export(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The reference model as `phiedge export` writes it for Jetson Orin, with a checkpoint for vLLM; made once."""
    destination = tmp_path_factory.mktemp("exported") / "bundle"
    command = [sys.executable, "-m", "phiedge", "export", "--target", "orin", "-o", str(destination), "--json"]
    command += ["--also", "compressed-tensors"]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return Exported(path=destination, told=json.loads(finished.stdout))


@pytest.fixture(scope="session")
def exported_bundle(reference_export: Exported) -> Path:
    """The reference model's bundle; read it, do not write into it."""
    return reference_export.path


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole checkpoint of two small layers with random weights, in two shards."""
    return write_checkpoint(tmp_path_factory.mktemp("tiny") / "checkpoint", shards=2)


@pytest.fixture(scope="session")
def tiny_bundle(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """`tiny_checkpoint` as the real pipeline exports it for the CPU, with goldens and report; do not write into it."""
    from phiedge.pipeline import export

    return export(str(tiny_checkpoint), target="cpu", output=tmp_path_factory.mktemp("tiny-bundle") / "bundle")


ORACLE = Path(__file__).parent / "oracle" / "tiny"


@pytest.fixture(scope="session")
def export_oracle(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Bundle]:
    """Exports the oracle's checkpoint with the real exporter, for 1024 positions, once for each precision.

    The bundles are shared: read them, do not write into them.
    """
    made: dict[str, Bundle] = {}

    def export(precision: str) -> Bundle:
        if precision not in made:
            made[precision] = _export_oracle(tmp_path_factory.mktemp("oracle") / precision, precision)
        return made[precision]

    return export


@pytest.fixture(scope="session")
def oracle_arrays() -> Iterator[Any]:
    """The numbers that the publisher's code computed on the oracle's checkpoint, by name."""
    with np.load(ORACLE / "oracle.npz") as arrays:
        yield arrays


@pytest.fixture(scope="session")
def oracle_cases() -> dict[str, dict[str, Any]]:
    """What the publisher's code answered, by case."""
    return json.loads((ORACLE / "oracle_meta.json").read_text())["cases"]


@pytest.fixture(scope="session")
def oracle_checkpoint() -> Iterator[Any]:
    """The oracle's checkpoint, open."""
    from phiedge.exporters.checkpoint import open_checkpoint

    with open_checkpoint(str(ORACLE)) as checkpoint:
        yield checkpoint


@pytest.fixture(scope="session")
def oracle_bundle(export_oracle: Callable[[str], Bundle]) -> Bundle:
    """The oracle's checkpoint as an fp32 bundle."""
    return export_oracle("fp32")


def _export_oracle(destination: Path, precision: str) -> Bundle:
    from phiedge.calibration.int4 import RoundToNearest
    from phiedge.exporters.checkpoint import open_checkpoint
    from phiedge.exporters.graphs import write_graphs
    from phiedge.exporters.precision import PLANS

    plan = PLANS[precision]
    with BundleWriter(destination) as writer, open_checkpoint(ORACLE) as checkpoint:
        written = write_graphs(
            checkpoint, precision=plan, max_context=1024, out_dir=writer.path, quantiser=RoundToNearest()
        )
        for name in ("tokenizer.json", "chat_template.jinja"):
            shutil.copyfile(ORACLE / name, writer.path / name)
        manifest = replace(
            MANIFEST,
            facts=checkpoint.config.facts(),
            precision=plan.record(embed_tokens=written.embed_tokens.dtype),
            dialects=written.dialects,
            embed_tokens=written.embed_tokens,
            positions=written.positions,
        )
        return writer.commit(manifest)
