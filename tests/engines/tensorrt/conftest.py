"""Bundles with graphs for TensorRT, and with engines that a stand-in runs."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from opened_engines import CHUNK, CONTEXT, write_engines
from phiedge.bundle import Bundle, BundleWriter, Manifest, ModelSource
from tensorrt_runtime import library
from tensorrt_surfaces import RTX

ORACLE = Path(__file__).parents[2] / "oracle" / "tiny"


@pytest.fixture(scope="session")
def gpu_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The oracle's checkpoint at fp16, with graphs for ONNX Runtime and for every TensorRT."""
    return _export(tmp_path_factory.mktemp("gpu") / "bundle", ("ort", "tensorrt", "tensorrt-10.3"))


@pytest.fixture
def with_engines(gpu_bundle: Bundle, tmp_path: Path) -> Callable[..., Bundle]:
    """Makes a bundle with engines that a stand-in of a release runs; it is the test's own."""

    def make(release: str = RTX, *, chunk: int = CHUNK) -> Bundle:
        path = tmp_path / "bundle"
        if not path.exists():
            shutil.copytree(gpu_bundle.path, path)
        bundle = Bundle.open(path)
        write_engines(bundle, library(release), chunk=chunk)
        return bundle

    return make


@pytest.fixture
def reference_with_engines(exported_bundle: Path, tmp_path: Path) -> Callable[..., Bundle]:
    """The same for the reference model as it is exported for Jetson Orin at int4, with its goldens."""

    def make(release: str, *, chunk: int = CHUNK) -> Bundle:
        path = tmp_path / "reference"
        shutil.copytree(exported_bundle, path)
        bundle = Bundle.open(path)
        write_engines(bundle, library(release), chunk=chunk)
        return bundle

    return make


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory for what is compiled, instead of the user's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _export(destination: Path, dialects: tuple[str, ...]) -> Bundle:
    from phiedge.calibration.int4 import RoundToNearest
    from phiedge.exporters.checkpoint import open_checkpoint
    from phiedge.exporters.graphs import write_graphs
    from phiedge.exporters.precision import PLANS

    plan = PLANS["fp16"]
    with BundleWriter(destination) as writer, open_checkpoint(ORACLE) as checkpoint:
        written = write_graphs(
            checkpoint,
            precision=plan,
            dialects=dialects,
            max_context=CONTEXT,
            out_dir=writer.path,
            quantiser=RoundToNearest(),
        )
        for name in ("tokenizer.json", "chat_template.jinja"):
            shutil.copyfile(ORACLE / name, writer.path / name)
        return writer.commit(
            Manifest(
                phiedge_version="0.1.0",
                model=ModelSource(name="oracle", source="directory", id=None, revision=None, files={}),
                facts=checkpoint.config.facts(),
                precision=plan.record(embed_tokens=written.embed_tokens.dtype),
                dialects=written.dialects,
                embed_tokens=written.embed_tokens,
                positions=written.positions,
                tokenizer="tokenizer.json",
                chat_template="chat_template.jinja",
                target={"name": "rtx-4090", "sm": "8.9"},
                tools={},
                goldens=None,
                quantization=None,
            )
        )
