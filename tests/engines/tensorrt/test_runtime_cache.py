import stat
from dataclasses import replace
from pathlib import Path

import pytest

from phiedge.engines.tensorrt.runtime_cache import RuntimeCacheFile, cache_directory
from recorded_device import GPU


class Cache:
    """An `IRuntimeCache` that takes what `accepts` says."""

    def __init__(self, holds: bytes | None = b"", *, accepts: bool = True) -> None:
        self.holds, self._accepts = holds, accepts

    def deserialize(self, blob: bytes) -> bool:
        if self._accepts:
            self.holds = bytes(blob)
        return self._accepts

    def serialize(self) -> bytes | None:
        return self.holds


def kept(directory: Path, **changes: object) -> RuntimeCacheFile:
    facts = {"engine_sha256": "a" * 64, "version": "1.7.1.116", "gpu": GPU} | changes
    return RuntimeCacheFile(directory, **facts)


def test_what_was_compiled_is_there_at_the_next_start(tmp_path: Path) -> None:
    kept(tmp_path).keep(Cache(b"kernels"))
    again = Cache()
    assert kept(tmp_path).load_into(again)
    assert again.holds == b"kernels"


def test_a_first_start_is_cold(tmp_path: Path) -> None:
    assert not kept(tmp_path).load_into(Cache())


@pytest.mark.parametrize(
    "change",
    [
        {"engine_sha256": "b" * 64},
        {"version": "1.8.0"},
        {"gpu": replace(GPU, name="Another")},
        {"gpu": replace(GPU, sm=86)},
        {"gpu": replace(GPU, cuda=(13, 1))},
    ],
)
def test_another_engine_release_gpu_or_driver_has_a_file_of_its_own(tmp_path: Path, change: dict[str, object]) -> None:
    assert kept(tmp_path).path != kept(tmp_path, **change).path


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data[:-1] + b"?", lambda data: b""])
def test_a_file_that_was_cut_or_changed_is_a_cold_start(tmp_path: Path, damage: object) -> None:
    file = kept(tmp_path)
    file.keep(Cache(b"kernels"))
    file.path.write_bytes(damage(file.path.read_bytes()))
    cache = Cache()
    assert not kept(tmp_path).load_into(cache)
    assert cache.holds == b""


def test_what_the_library_does_not_accept_is_written_anew(tmp_path: Path) -> None:
    kept(tmp_path).keep(Cache(b"of another driver"))
    file = kept(tmp_path)
    assert not file.load_into(Cache(accepts=False))
    file.keep(Cache(b"kernels"))
    again = Cache()
    assert kept(tmp_path).load_into(again)
    assert again.holds == b"kernels"


def test_nothing_is_written_where_nothing_was_compiled(tmp_path: Path) -> None:
    kept(tmp_path).keep(Cache(b"kernels"))
    file = kept(tmp_path)
    cache = Cache()
    file.load_into(cache)
    file.path.unlink()
    file.keep(cache)
    assert not file.path.exists()


def test_the_file_is_whole_and_its_owners_alone(tmp_path: Path) -> None:
    file = kept(tmp_path / "deep" / "below")
    file.keep(Cache(b"kernels"))
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert [path.name for path in file.path.parent.iterdir()] == [file.path.name]


def test_a_place_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(RuntimeWarning, match="cannot be kept in .* the next start compiles it again"):
        kept(tmp_path / "file").keep(Cache(b"kernels"))


def test_it_lies_in_the_users_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache_directory({}) == Path("/home/someone/.cache/phiedge/tensorrt-rtx")
    assert cache_directory({"XDG_CACHE_HOME": "/var/cache"}) == Path("/var/cache/phiedge/tensorrt-rtx")
    assert cache_directory({"XDG_CACHE_HOME": "not/absolute"}) == Path("/home/someone/.cache/phiedge/tensorrt-rtx")
