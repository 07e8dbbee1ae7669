"""Signatures: who signed it can be told, and nothing else passes for it."""

import stat
from pathlib import Path
from typing import Any

import pytest

from phiedge.acceptance.evidence import read_evidence, seal_of, write_evidence
from phiedge.acceptance.signing import check_private_key, check_signature, new_key, signed
from phiedge.errors import IntegrityError, UsageError


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "team.key"
    assert new_key(path) == tmp_path / "team.key.pub"
    return path


def sealed(**content: Any) -> dict[str, Any]:
    record = {"schema": "phiedge.evidence/2", "verdict": "PASS", **content}
    return record | {"seal": seal_of(record)}


def public(key: Path) -> Path:
    return key.with_name(key.name + ".pub")


def test_what_was_signed_is_read_and_checked(key: Path, tmp_path: Path) -> None:
    record = signed(sealed(), key)
    write_evidence(record, tmp_path / "e.json")
    assert check_signature(read_evidence(tmp_path / "e.json"), public(key)) == record["signature"]["key"]
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_sealing_anew_does_not_help_who_edits(key: Path) -> None:
    record = signed(sealed(verdict="FAIL"), key)
    edited = {name: value for name, value in record.items() if name != "seal"} | {"verdict": "PASS"}
    with pytest.raises(IntegrityError, match="the signature is not that of the key"):
        check_signature(edited | {"seal": seal_of(edited)}, public(key))


def test_another_key_or_none_is_refused(key: Path, tmp_path: Path) -> None:
    new_key(tmp_path / "other.key")
    with pytest.raises(IntegrityError, match="is not that of the key"):
        check_signature(signed(sealed(), tmp_path / "other.key"), public(key))
    with pytest.raises(IntegrityError, match="not signed"):
        check_signature(sealed(), public(key))
    with pytest.raises(IntegrityError):
        check_signature(sealed() | {"signature": {"value": "!!", "key": "x"}}, public(key))


def test_what_is_no_key_is_refused(key: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="exists already"):
        new_key(key)
    with pytest.raises(UsageError, match="cannot be read"):
        check_private_key(tmp_path / "none")
    with pytest.raises(UsageError, match="no private key"):
        check_private_key(public(key))
    with pytest.raises(UsageError, match="no public key"):
        check_signature(signed(sealed(), key), key)
