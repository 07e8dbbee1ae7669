"""`trtllm-build` as a process: its log kept, its end judged, and what it wrote verified.

An exit code of 0 is not believed by itself: the engine and its configuration have to be there, new, and of this model.
"""

import json
import os
import signal
import subprocess
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from phiedge.bundle import ModelFacts
from phiedge.errors import DeviceError
from phiedge.progress import Progress, silent

ENGINE, CONFIG, LOG = "rank0.engine", "config.json", "build.log"
SMALLEST_SHARE = 0.5  # of its weights; an engine that is smaller does not hold them
_FULL = ("no space left on device", "disk quota exceeded")
_SHORT = ("out of memory", "cannot allocate memory", "bad_alloc")
_LINES_TOLD = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """What is built: from which checkpoint, into which directory, for how much. `pictures_tokens` is room for rows."""

    checkpoint: Path
    output: Path
    max_context: int
    pictures_tokens: int
    weights_bytes: int


def build_words(tool: str, request: BuildRequest) -> list[str]:
    """The command line; its options are those of 0.12 to 1.2."""
    return [
        tool,
        *("--checkpoint_dir", str(request.checkpoint)),
        *("--output_dir", str(request.output)),
        *("--max_batch_size", "1"),
        *("--max_input_len", str(request.max_context)),
        *("--max_seq_len", str(request.max_context)),
        *("--max_num_tokens", str(request.max_context)),
        *("--max_multimodal_len", str(request.pictures_tokens)),
        *("--gemm_plugin", "float16"),
        *("--gpt_attention_plugin", "float16"),
        *("--workers", "1"),
        *("--log_level", "info"),
    ]


def run_build(tool: Path, request: BuildRequest, *, facts: ModelFacts, progress: Progress = silent) -> None:
    """Run the tool to its end and verify what it wrote. Raises `DeviceError`; an interrupt ends the tool, too."""
    log = request.output.with_name(f"{request.output.name}.{LOG}")
    code, last = run_logged(build_words(str(tool), request), log, progress=progress, task="trtllm-build")
    if code != 0:
        raise ended_wrong(tool.name, code, last, log)
    verify_engine(request, facts, log)
    log.unlink()  # it is kept for what went wrong


def run_logged(words: Sequence[str], log: Path, *, progress: Progress, task: str) -> tuple[int, list[str]]:
    """Run a command with its output in the file `log`; returns its exit code and its last lines.

    It runs in a group of its own, which is ended as a whole when this ends early.
    """
    last: deque[str] = deque(maxlen=_LINES_TOLD)
    with progress.task(task, 1, "engine") as advance, log.open("w", encoding="utf-8") as kept:
        with subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True
        ) as process:
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    kept.write(line)
                    if line.strip():
                        last.append(line.strip())
                code = process.wait()
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                raise
        advance(1)
    return code, list(last)


def ended_wrong(name: str, code: int, last: Sequence[str], log: Path) -> DeviceError:
    """What the end of a process means, by its exit code and its last words."""
    said = " / ".join(last) or "nothing"
    lower = said.lower()
    if any(words in lower for words in _FULL):
        return DeviceError(f"{name} ran out of disk: {said}", remedy="free some space, or build on another disk")
    if any(words in lower for words in _SHORT) or code == -signal.SIGKILL:
        how = "was killed, as the system does when memory is short" if code < 0 else "ran out of memory"
        return DeviceError(
            f"{name} {how}; it said: {said}", remedy="close other programs, or build where there is more"
        )
    if code < 0:
        return DeviceError(f"{name} was ended by signal {-code}; it said: {said}", remedy="build again")
    return DeviceError(f"{name} ended with exit code {code}; it said: {said}", remedy=f"its whole log is {log}")


def verify_engine(request: BuildRequest, facts: ModelFacts, log: Path) -> None:
    """See that there is an engine, of about the size of its weights, and that its configuration is this model's."""
    engine, config = request.output / ENGINE, request.output / CONFIG
    for path in (engine, config):
        if not path.is_file() or path.stat().st_size == 0:
            raise DeviceError(
                f"trtllm-build reported success and wrote no {path.name}", remedy=f"its log is {log}; build again"
            )
    size_bytes, least_bytes = engine.stat().st_size, int(SMALLEST_SHARE * request.weights_bytes)
    if size_bytes < least_bytes:
        raise DeviceError(
            f"trtllm-build reported success, but {ENGINE} has {size_bytes} bytes, the weights take "
            f"{request.weights_bytes}",
            remedy=f"its log is {log}; build again",
        )
    try:
        said = json.loads(config.read_bytes())["pretrained_config"]
    except (ValueError, KeyError, TypeError) as error:
        raise DeviceError(f"{config} is not what trtllm-build writes", remedy="build again") from error
    wanted = {
        "num_hidden_layers": facts.num_layers,
        "hidden_size": facts.hidden_size,
        "num_key_value_heads": facts.num_kv_heads,
        "vocab_size": facts.vocab_size,
    }
    for key, value in wanted.items():
        if said.get(key) != value:
            raise DeviceError(
                f"the engine was built with {key} {said.get(key)}, the model has {value}", remedy="build again"
            )
    algorithm = (said.get("quantization") or {}).get("quant_algo")
    if algorithm != "W4A16_AWQ":
        raise DeviceError(
            f"the engine was built with the quantisation {algorithm}, the checkpoint has W4A16_AWQ",
            remedy="build again with another version of TensorRT-LLM",
        )
