import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from phiedge.bundle import Bundle, BundleWriter, FileEntry, Manifest, hash_file, writing
from phiedge.bundle.reading import JOURNAL_NAME
from phiedge.errors import BundleError

Fill = Callable[[Path], None]


def write(destination: Path, manifest: Manifest, fill: Fill, *, overwrite: bool = False) -> Bundle:
    with BundleWriter(destination, overwrite=overwrite) as writer:
        fill(writer.path)
        return writer.commit(manifest)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_committed_bundle_stands_alone_and_lists_every_file(
    tmp_path: Path, plain_manifest: Manifest, fill_plain_bundle: Fill
) -> None:
    with BundleWriter(tmp_path / "bundle") as writer:
        fill_plain_bundle(writer.path)
        (writer.path / "deep").mkdir()
        (writer.path / "deep" / "file").write_bytes(b"x")
        bundle = writer.commit(plain_manifest)
    assert names(tmp_path) == ["bundle"]
    assert "deep/file" in bundle.manifest.files
    assert bundle.check_files() == []


def test_the_same_files_give_the_same_bundle(tmp_path: Path, plain_manifest: Manifest, fill_plain_bundle: Fill) -> None:
    first = write(tmp_path / "one", plain_manifest, fill_plain_bundle)
    second = write(tmp_path / "two", plain_manifest, fill_plain_bundle)
    assert first.file("tokenizer.json").read_bytes() == second.file("tokenizer.json").read_bytes()
    assert (first.path / "manifest.json").read_bytes() == (second.path / "manifest.json").read_bytes()


def test_missing_parent_directories_are_made(tmp_path: Path, plain_manifest: Manifest, fill_plain_bundle: Fill) -> None:
    assert write(tmp_path / "a" / "b", plain_manifest, fill_plain_bundle).path == tmp_path / "a" / "b"


def test_an_empty_directory_may_become_the_bundle(
    tmp_path: Path, plain_manifest: Manifest, fill_plain_bundle: Fill
) -> None:
    (tmp_path / "bundle").mkdir()
    write(tmp_path / "bundle", plain_manifest, fill_plain_bundle)
    assert names(tmp_path) == ["bundle"]


@pytest.mark.parametrize("error", [RuntimeError("x"), KeyboardInterrupt(), SystemExit(3)])
def test_an_error_or_an_interrupt_leaves_nothing(tmp_path: Path, fill_plain_bundle: Fill, error: BaseException) -> None:
    with pytest.raises(type(error)), BundleWriter(tmp_path / "bundle") as writer:
        fill_plain_bundle(writer.path)
        raise error
    assert names(tmp_path) == []


def test_what_is_not_committed_leaves_nothing(tmp_path: Path, fill_plain_bundle: Fill) -> None:
    with BundleWriter(tmp_path / "bundle") as writer:
        fill_plain_bundle(writer.path)
    assert names(tmp_path) == []


def test_a_bundle_that_does_not_hold_together_is_not_committed(tmp_path: Path, plain_manifest: Manifest) -> None:
    with pytest.raises(BundleError, match="which is not in its list of files"), BundleWriter(tmp_path / "b") as writer:
        (writer.path / "tokenizer.json").write_bytes(b"{}")
        writer.commit(plain_manifest)
    assert names(tmp_path) == []


def test_an_existing_bundle_is_kept_unless_it_may_be_replaced(
    plain_bundle: Bundle, plain_manifest: Manifest, fill_plain_bundle: Fill
) -> None:
    with pytest.raises(BundleError, match="already holds a bundle") as caught:
        write(plain_bundle.path, plain_manifest, fill_plain_bundle)
    assert "--overwrite" in str(caught.value.remedy)
    assert Bundle.open(plain_bundle.path).check_files() == []


def test_an_existing_bundle_is_replaced_when_asked(
    plain_bundle: Bundle, plain_manifest: Manifest, fill_plain_bundle: Fill
) -> None:
    with BundleWriter(plain_bundle.path, overwrite=True) as writer:
        fill_plain_bundle(writer.path)
        (writer.path / "new").write_bytes(b"new")
        assert "new" not in Bundle.open(plain_bundle.path).manifest.files, "the old one is there until the commit"
        writer.commit(plain_manifest)
    assert "new" in Bundle.open(plain_bundle.path).manifest.files
    assert names(plain_bundle.path.parent) == ["bundle"]


def test_a_failed_replacement_keeps_the_old_bundle(plain_bundle: Bundle, fill_plain_bundle: Fill) -> None:
    with pytest.raises(RuntimeError), BundleWriter(plain_bundle.path, overwrite=True) as writer:
        fill_plain_bundle(writer.path)
        raise RuntimeError("no")
    assert Bundle.open(plain_bundle.path).check_files() == []
    assert names(plain_bundle.path.parent) == ["bundle"]


def test_a_replacement_interrupted_between_its_renames_brings_the_old_bundle_back(
    plain_bundle: Bundle, plain_manifest: Manifest, fill_plain_bundle: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.rename

    def interrupted(source: Path, target: Path) -> None:
        if ".partial-" in source.name:
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(writing.os, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(plain_bundle.path, plain_manifest, fill_plain_bundle, overwrite=True)
    assert Bundle.open(plain_bundle.path).check_files() == []
    assert names(plain_bundle.path.parent) == ["bundle"]


def test_a_bundle_that_a_killed_writer_had_moved_aside_comes_back(plain_bundle: Bundle) -> None:
    plain_bundle.path.rename(plain_bundle.path.with_name(".bundle.replaced-99"))
    with BundleWriter(plain_bundle.path, overwrite=True):
        assert Bundle.open(plain_bundle.path).check_files() == []
    assert names(plain_bundle.path.parent) == ["bundle"]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("content", ["", "not json", "[]", '{"manifest_version": 3, "name": "a browser extension"}'])
def test_a_directory_that_is_not_a_bundle_is_never_replaced(tmp_path: Path, content: str, overwrite: bool) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "manifest.json").write_text(content)
    with pytest.raises(BundleError, match="is left as it is"), BundleWriter(precious, overwrite=overwrite):
        pass
    assert (precious / "manifest.json").read_text() == content
    assert names(tmp_path) == ["precious"]


def test_a_file_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(BundleError, match="exists and is not a directory"):
        BundleWriter(tmp_path / "file", overwrite=True).__enter__()
    assert (tmp_path / "file").read_text() == "x"


def test_a_bundle_behind_a_link_is_replaced_where_it_is(
    plain_bundle: Bundle, plain_manifest: Manifest, fill_plain_bundle: Fill, tmp_path: Path
) -> None:
    (tmp_path / "latest").symlink_to("bundle")
    assert write(tmp_path / "latest", plain_manifest, fill_plain_bundle, overwrite=True).path == plain_bundle.path
    assert names(tmp_path) == ["bundle", "latest"]


@pytest.mark.parametrize("name", ["/", ".x.partial-1"])
def test_a_name_that_no_bundle_can_have_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BundleError, match="a bundle cannot be called"):
        BundleWriter(tmp_path / name).__enter__()


def test_a_full_disk_is_told_with_what_was_written_and_what_is_free(tmp_path: Path, fill_plain_bundle: Fill) -> None:
    with (
        pytest.raises(BundleError, match=r"is full: 0\.0 MB of the bundle were written, [\d,.]+ MB are free") as caught,
        BundleWriter(tmp_path / "bundle") as writer,
    ):
        fill_plain_bundle(writer.path)
        raise OSError(errno.ENOSPC, "No space left on device")
    assert "free some space" in str(caught.value.remedy)
    assert names(tmp_path) == []


def test_another_error_of_the_machine_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), BundleWriter(tmp_path / "bundle"):
        raise PermissionError(errno.EACCES, "Permission denied")


def test_what_the_disk_cannot_hold_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"the bundle needs 1,000,000,000,000\.0 MB, .* MB free"):
        with BundleWriter(tmp_path / "bundle") as writer:
            writer.require_space(1)
            writer.require_space(10**18)


# It stops inside the writer, says so, and waits to be killed; the manifest is there already.
KILLED_WRITER = """
import sys
from dataclasses import replace
from pathlib import Path
from phiedge.bundle import BundleWriter
with BundleWriter(sys.argv[1]) as writer:
    (writer.path / "decoder.ort.onnx").write_bytes(b"half")
    (writer.path / "manifest.json").write_bytes(Path(sys.argv[2]).read_bytes())
    print(writer.path, flush=True)
    sys.stdin.read()
"""


def test_a_killed_export_leaves_nothing_that_opens_and_the_next_one_cleans_up(
    tmp_path: Path, plain_bundle: Bundle, plain_manifest: Manifest, fill_plain_bundle: Fill
) -> None:
    destination = tmp_path / "out" / "new"
    command = [sys.executable, "-c", KILLED_WRITER, str(destination), str(plain_bundle.path / "manifest.json")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        partial = Path(process.stdout.readline().strip())
        # While it lives, another writer is refused and leaves its directory alone.
        with pytest.raises(BundleError, match="another process is writing .*new at this moment") as caught:
            BundleWriter(destination, overwrite=True).__enter__()
        assert caught.value.remedy == "wait until it has ended, or choose another name with -o"
        assert names(partial) == ["decoder.ort.onnx", "manifest.json"]
        process.send_signal(signal.SIGKILL)
    assert partial.exists()
    assert not destination.exists()
    with pytest.raises(BundleError):
        Bundle.open(partial)
    write(destination, plain_manifest, fill_plain_bundle)
    assert names(destination.parent) == ["new"]


def test_the_partial_directories_of_other_bundles_are_left_alone(tmp_path: Path) -> None:
    for name in (".bundle2.partial-1", ".other.partial-1", "bundle.partial-1"):
        (tmp_path / name).mkdir()
    with BundleWriter(tmp_path / "bundle"):
        pass
    assert len(names(tmp_path)) == 3


def test_a_bundle_can_be_tried_before_it_is_committed(
    tmp_path: Path, plain_manifest: Manifest, fill_plain_bundle: Fill
) -> None:
    with BundleWriter(tmp_path / "bundle") as writer:
        fill_plain_bundle(writer.path)
        preview = writer.preview(plain_manifest)
        assert preview.file("tokenizer.json").read_bytes() == b"{}"
        (writer.path / "tokenizer.json").write_bytes(b'{"changed": 1}')
        (writer.path / "goldens.npz").write_bytes(b"computed with the preview")
        bundle = writer.commit(replace(plain_manifest, goldens="goldens.npz"))
    assert bundle.check_files() == []
    assert "goldens.npz" in bundle.manifest.files


def test_files_whose_hashes_are_known_are_not_read_again(
    tmp_path: Path, plain_manifest: Manifest, fill_plain_bundle: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []
    monkeypatch.setattr(writing, "hash_file", lambda path: hashed.append(path.name) or hash_file(path))
    with BundleWriter(tmp_path / "bundle") as writer:
        fill_plain_bundle(writer.path)
        file = writer.path / "tokenizer.json"
        writer.know({file.name: FileEntry(sha256=hash_file(file), bytes=file.stat().st_size)})
        writer.preview(plain_manifest)
        assert "tokenizer.json" not in hashed
        file.write_bytes(b'{"changed": 1}')
        bundle = writer.commit(plain_manifest)
    assert "tokenizer.json" in hashed, "it was written to since"
    assert bundle.check_files() == []


def journalled(destination: Path, error: BaseException, *, resume: bool = True) -> None:
    """A writer that keeps a journal and ends with `error`."""
    with BundleWriter(destination, resume=resume) as writer:
        (writer.path / "decoder.data").write_bytes(b"half")
        (writer.path / JOURNAL_NAME).write_text("{}")
        raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_what_has_a_journal_outlives_an_interrupt_and_a_full_disk(
    tmp_path: Path, plain_manifest: Manifest, fill_plain_bundle: Fill, error: BaseException
) -> None:
    with pytest.raises((KeyboardInterrupt, BundleError)) as caught:
        journalled(tmp_path / "bundle", error)
    assert names(tmp_path) == [".bundle.partial-export"]
    assert "the same command goes on from" in str(caught.value)
    assert str(tmp_path / ".bundle.partial-export") in str(caught.value)
    with pytest.raises(BundleError, match="is what a killed export left behind"):
        Bundle.open(tmp_path / ".bundle.partial-export")
    with BundleWriter(tmp_path / "bundle", resume=True) as writer:
        assert names(writer.path) == ["decoder.data", JOURNAL_NAME]
        fill_plain_bundle(writer.path)
        bundle = writer.commit(plain_manifest)
    assert names(tmp_path) == ["bundle"]
    assert JOURNAL_NAME not in names(bundle.path)
    assert bundle.check_files() == []


def test_other_errors_remove_it_with_its_journal(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        journalled(tmp_path / "bundle", RuntimeError("x"))
    assert names(tmp_path) == []


def test_a_writer_that_keeps_no_journal_begins_with_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        journalled(tmp_path / "bundle", KeyboardInterrupt())
    with BundleWriter(tmp_path / "bundle") as writer:
        assert names(writer.path) == []
    assert names(tmp_path) == []


def test_what_is_written_already_counts_as_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt):
        journalled(tmp_path / "bundle", KeyboardInterrupt())
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10))
    with BundleWriter(tmp_path / "bundle", resume=True) as writer:
        writer.require_space(12)
        with pytest.raises(BundleError, match=r"the bundle needs 0\.0 MB, of which 0\.0 MB are written, .* free"):
            writer.require_space(100)


def test_without_locks_every_writer_has_a_directory_of_its_own_and_keeps_no_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(writing.fcntl, "flock", refuse)
    with BundleWriter(tmp_path / "bundle", resume=True) as writer:
        assert not writer.resumable
        assert writer.path.name == f".bundle.partial-{os.getpid()}"
