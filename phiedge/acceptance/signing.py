"""Signatures over evidence (ed25519): who holds the private key vouches for the seal, and anyone with the public key
can tell. Needs the extra `sign`.

Keys are PEM files as OpenSSL writes them (`openssl genpkey -algorithm ed25519`); `new_key` makes a pair of them.
"""

import base64
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phiedge.errors import IntegrityError, MissingExtraError, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_CONTEXT = b"phiedge evidence, sealed "  # so that a signature of something else is none of this
_MAKE = "`phiedge accept --new-key FILE` makes a pair; so does openssl genpkey -algorithm ed25519"


def signed(record: dict[str, Any], key_path: Path) -> dict[str, Any]:
    """The record with a signature over its seal. Raises `UsageError` for what is no private key."""
    key = _private(key_path)
    signature = key.sign(_message(record))
    return record | {
        "signature": {
            "algorithm": "ed25519",
            "key": fingerprint(key.public_key()),
            "value": base64.b64encode(signature).decode("ascii"),
        }
    }


def check_signature(record: dict[str, Any], public_path: Path) -> str:
    """The fingerprint of the key that signed it. Raises `IntegrityError` unless that is the one at `public_path`."""
    from cryptography.exceptions import InvalidSignature

    key = _public(public_path)
    told = record.get("signature")
    if not isinstance(told, dict):
        raise IntegrityError(
            "the evidence is not signed, and a public key was given",
            remedy="ask for signed evidence, or leave out --public-key to check the seal alone",
        )
    mine = fingerprint(key)
    try:
        key.verify(base64.b64decode(str(told.get("value")), validate=True), _message(record))
    except (InvalidSignature, ValueError) as error:
        raise IntegrityError(
            f"the signature is not that of the key {mine}; it says it is of {told.get('key')}",
            remedy="use the public key of who signed it; if that is this one, the evidence was not signed by them",
        ) from error
    return mine


def new_key(path: Path) -> Path:
    """Write a new private key to `path`, readable by its owner alone, and its public key beside it; gives the latter.

    Never writes over a file.
    """
    _require()
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    public_path = path.with_name(path.name + ".pub")
    for there in (path, public_path):
        if there.exists():
            raise UsageError(f"{there} exists already", remedy="name a file that does not; a key is never replaced")
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    _write_new(path, private, mode=0o600)
    _write_new(public_path, public, mode=0o644)
    return public_path


def fingerprint(key: "Ed25519PublicKey") -> str:
    """The first 16 hexadecimal digits of the sha256 of the public key."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def check_private_key(path: Path) -> None:
    """Refuse a key that could not sign, before anything is measured."""
    _private(path)


def _private(path: Path) -> "Ed25519PrivateKey":
    _require()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(_read(path), password=None)
    except (ValueError, TypeError) as error:  # TypeError: it has a passphrase
        raise UsageError(f"{path} is no private key that can be read: {error}", remedy=_MAKE) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"{path} is a key of another kind than ed25519", remedy=_MAKE)
    return key


def _public(path: Path) -> "Ed25519PublicKey":
    _require()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(_read(path))
    except ValueError as error:
        raise UsageError(f"{path} is no public key: {error}", remedy="it is FILE.pub beside the private key") from error
    if not isinstance(key, Ed25519PublicKey):
        raise UsageError(f"{path} is a key of another kind than ed25519", remedy=_MAKE)
    return key


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"the key {path} cannot be read: {(error.strerror or '').lower()}", remedy=_MAKE) from error


def _write_new(path: Path, data: bytes, *, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)


def _message(record: dict[str, Any]) -> bytes:
    return _CONTEXT + str(record["seal"]).encode("ascii", errors="replace")


def _require() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(what="a signature", extra="sign", missing="cryptography") from error
