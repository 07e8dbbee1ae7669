"""Whether TensorRT-LLM's PyTorch backend loads a checkpoint: one token of it, in a process of its own.

`python -m phiedge.engines.tensorrt_llm.load_check DIR` is that process. Its last line is JSON; all else is failure.
"""

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from phiedge.engines.tensorrt_llm.build_tool import ended_wrong, run_logged
from phiedge.errors import DeviceError
from phiedge.progress import Progress, silent

_PROMPT = [1, 2, 3]  # any tokens: what is tried is whether it loads and computes


def check_loads(checkpoint: Path, log: Path, *, python: str = sys.executable, progress: Progress = silent) -> str:
    """Load the checkpoint and compute a token; returns the version that did. Raises `DeviceError`."""
    words = [python, "-m", "phiedge.engines.tensorrt_llm.load_check", str(checkpoint)]
    code, last = run_logged(words, log, progress=progress, task="load checkpoint")
    if code != 0:
        raise ended_wrong("TensorRT-LLM", code, last, log)
    try:
        told = json.loads(last[-1])
        version, tokens = str(told["version"]), list(told["tokens"])
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise DeviceError(
            "TensorRT-LLM reported success and computed nothing", remedy=f"its whole log is {log}"
        ) from error
    if len(tokens) != 1:
        raise DeviceError(f"TensorRT-LLM computed {len(tokens)} tokens, 1 was asked for", remedy=f"its log is {log}")
    log.unlink()
    return version


def main(checkpoint: str) -> None:
    """Load the checkpoint with the library that is here, and print what it computed."""
    library: Any = import_module("tensorrt_llm")
    model = library.LLM(model=checkpoint, skip_tokenizer_init=True)
    (made,) = model.generate([_PROMPT], library.SamplingParams(max_tokens=1, end_id=-1))
    print(json.dumps({"version": library.__version__, "tokens": list(made.outputs[0].token_ids)}))


if __name__ == "__main__":
    main(sys.argv[1])
