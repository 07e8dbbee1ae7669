from pathlib import Path

import pytest

from phiedge.bundle.paths import check_relative, locate
from phiedge.errors import BundleError


@pytest.mark.parametrize("path", ["a", "a/b.bin", ".hidden", "a..b", "..a"])
def test_a_plain_path_is_taken(path: str) -> None:
    assert check_relative(path, "here") == path


@pytest.mark.parametrize(
    "path", ["", ".", "..", "../a", "a/../b", "a/..", "/a", "//a", "a//b", "./a", "a/", "a\\b", "C:a", "a\nb", "a\x00b"]
)
def test_a_path_that_could_leave_the_bundle_or_is_not_plain_is_refused(path: str) -> None:
    with pytest.raises(BundleError, match="here names the path"):
        check_relative(path, "here")


def test_a_link_out_of_the_bundle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "secret").write_text("x")
    (tmp_path / "bundle" / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "bundle" / "dir").symlink_to(tmp_path)
    for path in ("link", "dir/secret"):
        with pytest.raises(BundleError, match="is a link that leaves the bundle"):
            locate(tmp_path / "bundle", path, "here")


def test_a_link_within_the_bundle_and_a_bundle_behind_a_link_are_fine(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_text("x")
    (tmp_path / "real" / "link").symlink_to("file")
    (tmp_path / "bundle").symlink_to("real")
    assert locate(tmp_path / "bundle", "link", "here").read_text() == "x"
