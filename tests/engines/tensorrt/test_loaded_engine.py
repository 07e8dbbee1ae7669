"""TensorRT-RTX itself, as far as it goes without a GPU, and the stand-in held against it."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from phiedge.engines.tensorrt.engine_log import EngineLog
from phiedge.engines.tensorrt.library import load_library
from phiedge.engines.tensorrt.loaded_engine import LoadedEngine
from phiedge.errors import BundleError
from tensorrt_runtime import runtime_module
from tensorrt_surfaces import RTX


@pytest.fixture(scope="module")
def rtx() -> Any:
    return load_library("tensorrt-rtx")


def test_what_is_no_engine_is_refused_by_tensorrt_rtx_itself_in_its_own_words(rtx: Any, tmp_path: Path) -> None:
    path = tmp_path / "decoder.engine"
    path.write_bytes(b"not an engine" * 1000)
    with pytest.raises(BundleError, match=r"tensorrt-rtx 1\.7\S* cannot open \S+decoder\.engine: .*magicTag") as caught:
        LoadedEngine(rtx, path, kept=None)
    assert "\n" not in caught.value.message
    assert "phiedge verify" in str(caught.value.remedy)


def test_errors_are_kept_and_the_rest_is_not(rtx: Any) -> None:
    log, severities = EngineLog(rtx.trt), rtx.trt.ILogger.Severity
    for severity, message in (
        (severities.VERBOSE, "a layer"),
        (severities.WARNING, "slow"),
        (severities.ERROR, "first\nits second line"),
        (severities.INTERNAL_ERROR, "then"),
    ):
        log.listener.log(severity, message)
    assert log.told() == "first; then"
    assert log.told() == "it does not say why"


def test_only_the_last_few_errors_are_kept(rtx: Any) -> None:
    log = EngineLog(rtx.trt)
    for number in range(100):
        log.listener.log(rtx.trt.ILogger.Severity.ERROR, str(number))
    assert log.told() == "97; 98; 99"


def stand_in_methods() -> Iterator[tuple[str, str, Any]]:
    """Every method of the stand-in's classes: the class in TensorRT, the name, and the function."""
    module = runtime_module(RTX)
    from tensorrt_runtime import _context_class, _engine_class

    engine, context = _engine_class(module), _context_class(module)
    for made in (module.Runtime, engine, context, module.RuntimeConfig):
        for name, member in vars(made).items():
            if inspect.isfunction(member) and not name.startswith("_"):
                yield made.__mro__[1].__name__, name, member


@pytest.mark.parametrize(("owner", "name", "function"), list(stand_in_methods()))
def test_the_stand_ins_methods_take_what_tensorrt_rtxs_take(rtx: Any, owner: str, name: str, function: Any) -> None:
    told = getattr(getattr(rtx.trt, owner), name).__doc__
    takes = [re.findall(r"(?:^|, )(\w+): ", signature)[1:] for signature in re.findall(rf"{name}\((self.*)\) ->", told)]
    wanted = list(inspect.signature(function).parameters)[1:]
    assert any(len(names) == len(wanted) for names in takes), told
