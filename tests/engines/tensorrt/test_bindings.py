"""What an engine says of itself, read through the runtime's names; comparisons are tested where plans are made."""

from collections.abc import Callable
from pathlib import Path

import pytest

from phiedge.bundle import Bundle
from phiedge.engines.engine_record import find_engine
from phiedge.engines.tensorrt.bindings import Binding, read_bindings
from phiedge.engines.tensorrt.loaded_engine import LoadedEngine
from phiedge.errors import BundleError
from tensorrt_runtime import library

WithEngines = Callable[..., Bundle]


def loaded(bundle: Bundle) -> LoadedEngine:
    engine = find_engine(bundle, "tensorrt-rtx-sm89")
    assert engine is not None
    return LoadedEngine(library(), engine.file("decoder.engine"), kept=None)


def test_every_input_and_output_is_read_with_its_profiles(with_engines: WithEngines) -> None:
    bundle = with_engines(chunk=32)
    facts, bindings = bundle.manifest.facts, loaded(bundle).bindings
    assert bindings["inputs_embeds"] == Binding(
        name="inputs_embeds",
        is_input=True,
        dtype="float16",
        shape=(1, -1, facts.hidden_size),
        profiles=tuple(3 * ((1, rows, facts.hidden_size),) for rows in (1, 32)),
    )
    logits = bindings["logits"]
    assert (logits.is_input, logits.dtype, logits.profiles) == (False, "float32", ())
    assert len(bindings) == 4 + 4 * facts.num_layers


def test_a_type_that_phiedge_has_no_name_for_is_told_as_tensorrt_calls_it(with_engines: WithEngines) -> None:
    engine = loaded(with_engines())
    trt, cuda_engine = engine.library.trt, engine._cuda_engine
    cuda_engine.get_tensor_dtype = lambda name: trt.DataType.BF16
    found = read_bindings(cuda_engine, trt, Path("decoder.engine"))
    assert {binding.dtype for binding in found.values()} == {"BF16"}


def test_an_input_on_the_host_is_refused_by_name(with_engines: WithEngines) -> None:
    engine = loaded(with_engines())
    trt = engine.library.trt
    trt.faults["location"] = trt.TensorLocation.HOST
    with pytest.raises(BundleError, match="decoder.engine wants inputs_embeds on the host"):
        read_bindings(engine._cuda_engine, trt, Path("decoder.engine"))
