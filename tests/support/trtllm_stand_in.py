"""A stand-in for an installed TensorRT-LLM: its version as packaging says it, and a `trtllm-build` that does as told.

    pretend_installed(monkeypatch, tmp_path, "1.2.1", ENGINE)

The tool is a small script; what it does is a piece of Python with `options`, a mapping of the command line, and
`output`, the directory to write into. Nothing of TensorRT-LLM itself is imitated but what phiedge looks at.
"""

import os
import sys
from pathlib import Path

import pytest

TOOL = """#!{python}
import json, os, signal, sys, time
from pathlib import Path
words = sys.argv[1:]
options = dict(zip(words[::2], words[1::2]))
checkpoint, output = Path(options["--checkpoint_dir"]), Path(options["--output_dir"])
print("[TensorRT-LLM] TensorRT-LLM version: {version}", flush=True)
{does}
"""
# What a build that goes well leaves.
ENGINE = """
config = json.loads((checkpoint / "config.json").read_text())
(output / "config.json").write_text(json.dumps({"version": "1.2.1", "pretrained_config": config}))
(output / "rank0.engine").write_bytes(bytes((checkpoint / "rank0.safetensors").stat().st_size))
print("[TRT-LLM] [I] Total time of building all engines: 00:00:01")
"""
# The module that a load imports, whose model computes `tokens`.
LIBRARY = """
__version__ = "{version}"
class SamplingParams:
    def __init__(self, **settings): pass
class LLM:
    def __init__(self, model, **settings):
        print("loading", model)
    def generate(self, prompts, params):
        class Made: token_ids = {tokens}
        class Output: outputs = [Made]
        return [Output for _ in prompts]
"""


def pretend_installed(
    monkeypatch: pytest.MonkeyPatch, directory: Path, version: str, does: str | None = None, library: str | None = None
) -> None:
    """Make this process, and those that it starts, find a TensorRT-LLM of `version`."""
    site = directory / "site"
    metadata = site / f"tensorrt_llm-{version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: tensorrt-llm\nVersion: {version}\n")
    if library is not None:
        (site / "tensorrt_llm.py").write_text(library)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])]))
    if does is not None:
        tools = directory / "bin"
        tools.mkdir()
        tool = tools / "trtllm-build"
        tool.write_text(TOOL.format(python=sys.executable, version=version, does=does))
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
