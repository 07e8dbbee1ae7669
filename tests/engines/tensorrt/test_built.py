"""Which engine of a bundle a GPU may run."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from phiedge.bundle import Bundle, FileEntry
from phiedge.engines.engine_record import EngineRecord
from phiedge.engines.engine_writer import EngineWriter
from phiedge.engines.tensorrt import built
from phiedge.engines.tensorrt.library import Library, load_library
from phiedge.errors import BundleError

Change = Callable[[EngineRecord], EngineRecord]


@pytest.fixture(scope="module")
def rtx() -> Library:
    return load_library("tensorrt-rtx")


@pytest.fixture
def bundle(plain_bundle: Bundle) -> Bundle:
    """One with graphs of the tensorrt dialect, as far as an engine's record looks at them."""
    manifest = plain_bundle.manifest
    return Bundle(path=plain_bundle.path, manifest=replace(manifest, dialects={"tensorrt": manifest.dialects["ort"]}))


def write(
    bundle: Bundle, rtx: Library, family: tuple[int, ...] = (89, 120), change: Change = lambda record: record
) -> None:
    def describe(files: Mapping[str, FileEntry]) -> EngineRecord:
        return change(
            built.describe(
                bundle, files, library=rtx, family=family, chunk_tokens=256, goldens=None, phiedge_version="0.1.0"
            )
        )

    with EngineWriter(bundle, built.engine_name(rtx.backend, family)) as writer:
        for name in (built.VISION, built.DECODER):
            (writer.path / name).write_bytes(b"engine")
        writer.commit(describe)


def test_a_gpu_gets_the_engine_that_was_built_for_it(bundle: Bundle, rtx: Library) -> None:
    write(bundle, rtx, (86,))
    write(bundle, rtx, (89, 120))
    names = {sm: built.usable_engine(bundle, rtx, sm=sm) for sm in (86, 89, 120)}
    assert {sm: engine and engine.name for sm, engine in names.items()} == {
        86: "tensorrt-rtx-sm86",
        89: "tensorrt-rtx-sm89+sm120",
        120: "tensorrt-rtx-sm89+sm120",
    }


def test_where_nothing_was_built_there_is_none(bundle: Bundle, rtx: Library) -> None:
    assert built.usable_engine(bundle, rtx, sm=86) is None


def test_an_engine_for_other_gpus_is_refused_naming_both(bundle: Bundle, rtx: Library) -> None:
    write(bundle, rtx)
    with pytest.raises(
        BundleError, match=r"no tensorrt-rtx engine for SM 86, .* tensorrt-rtx-sm89\+sm120 for SM 89, 120"
    ) as caught:
        built.usable_engine(bundle, rtx, sm=86)
    assert "--backend tensorrt-rtx --sm 86" in str(caught.value.remedy)


def changed_source(record: EngineRecord) -> EngineRecord:
    return replace(record, source=dict.fromkeys(record.source, "0" * 64))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda record: replace(record, tools={"tensorrt-rtx": "1.6.0"}),
            "was built by tensorrt-rtx 1.6.0; here is 1.7",
        ),
        (changed_source, "was made from .* 000000000000; the bundle has"),
        (
            lambda record: replace(record, options={**record.options, "dialect": "tensorrt-10.3"}),
            r"was built from the tensorrt-10.3 dialect; tensorrt-rtx \S+ wants tensorrt",
        ),
        (
            lambda record: replace(record, options={**record.options, "capacity": "32"}),
            "was built for a cache of 32 positions; the bundle's graphs have 64",
        ),
    ],
)
def test_an_engine_that_is_not_of_here_and_now_is_refused_naming_both(
    bundle: Bundle, rtx: Library, change: Change, message: str
) -> None:
    write(bundle, rtx, change=change)
    with pytest.raises(BundleError, match=message) as caught:
        built.usable_engine(bundle, rtx, sm=89)
    assert "phiedge build" in str(caught.value.remedy)


def test_an_engine_of_another_backend_is_none_of_this_one(bundle: Bundle, rtx: Library) -> None:
    write(bundle, replace(rtx, backend="tensorrt"), (89,))
    assert built.usable_engine(bundle, rtx, sm=89) is None
