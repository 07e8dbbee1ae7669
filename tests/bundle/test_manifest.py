import json
from dataclasses import replace
from typing import Any

import pytest

from phiedge.bundle import Bundle, FileEntry, Manifest, ModelSource, Table
from phiedge.errors import BundleError, IntegrityError, SchemaError


@pytest.fixture
def value(plain_bundle: Bundle) -> dict[str, Any]:
    """The JSON of a whole manifest."""
    loaded: dict[str, Any] = json.loads((plain_bundle.path / "manifest.json").read_bytes())
    return loaded


def test_a_manifest_comes_back_from_its_bytes(plain_bundle: Bundle) -> None:
    assert Manifest.from_bytes(plain_bundle.manifest.to_bytes()) == plain_bundle.manifest


def test_the_same_manifest_gives_the_same_bytes_in_sorted_order(plain_manifest: Manifest) -> None:
    data = plain_manifest.to_bytes()
    assert data == plain_manifest.to_bytes()
    keys = list(json.loads(data))
    assert keys == sorted(keys)


def test_a_newer_schema_is_refused_before_its_unknown_keys(value: dict[str, Any]) -> None:
    with pytest.raises(SchemaError, match=r"newer phiedge \(schema 4, this one reads 3\)") as caught:
        Manifest.from_json(value | {"schema_version": 4, "from_the_future": 1})
    assert caught.value.remedy == "pip install --upgrade phiedge"


def test_an_older_schema_is_refused_with_what_to_do(value: dict[str, Any]) -> None:
    with pytest.raises(SchemaError, match=r"older phiedge \(schema 2, this one reads 3\)") as caught:
        Manifest.from_json(value | {"schema_version": 2})
    assert caught.value.remedy == "export the bundle again"


@pytest.mark.parametrize("version", [0, -1])
def test_a_schema_that_never_was_is_refused(value: dict[str, Any], version: int) -> None:
    with pytest.raises(SchemaError, match="does not exist"):
        Manifest.from_json(value | {"schema_version": version})


@pytest.mark.parametrize("version", ["1", True, None, 1.0])
def test_a_schema_version_that_is_no_integer_is_refused(value: dict[str, Any], version: object) -> None:
    with pytest.raises(BundleError, match="schema_version must be of type int"):
        Manifest.from_json(value | {"schema_version": version})


def test_an_unknown_key_is_named(value: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match="unknown key 'modle'; did you mean 'model'"):
        Manifest.from_json(value | {"modle": 1})


def test_a_changed_value_breaks_the_seal(value: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError, match="changed after it was sealed"):
        Manifest.from_json(value | {"phiedge_version": "0.1.1"})


@pytest.mark.parametrize("position", range(0, 2000, 37))
def test_any_flipped_bit_of_the_manifest_is_found(plain_bundle: Bundle, position: int) -> None:
    data = bytearray(plain_bundle.manifest.to_bytes())
    data[position % len(data)] ^= 1
    with pytest.raises(BundleError):
        Manifest.from_bytes(bytes(data))


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"schema_version": NaN}'])
def test_what_is_not_a_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(BundleError):
        Manifest.from_bytes(data)


@pytest.mark.parametrize("path", ["../tokenizer.json", "/etc/passwd", "a\\b"])
@pytest.mark.parametrize("key", ["tokenizer", "chat_template", "goldens", "quantization"])
def test_a_role_whose_file_is_outside_is_refused(value: dict[str, Any], key: str, path: str) -> None:
    with pytest.raises(BundleError, match=f"{key} names the path"):
        Manifest.from_json(value | {key: path})


def test_a_listed_file_outside_is_refused(value: dict[str, Any]) -> None:
    value["files"]["../x"] = value["files"]["tokenizer.json"]
    with pytest.raises(BundleError, match=r"files names the path '\.\./x'"):
        Manifest.from_json(value)


def test_a_named_file_must_be_listed(value: dict[str, Any]) -> None:
    del value["files"]["vision.ort.onnx"]
    with pytest.raises(BundleError, match="dialects.ort.vision names 'vision.ort.onnx', which is not in its list"):
        Manifest.from_json(value)


def test_a_table_of_another_size_than_its_shape_is_refused(value: dict[str, Any]) -> None:
    value["files"]["embed_tokens.bin"]["bytes"] -= 4
    with pytest.raises(BundleError, match="embed_tokens.bin has 508 bytes instead of 512"):
        Manifest.from_json(value)


def test_a_table_of_another_shape_than_the_model_needs_is_refused(plain_manifest: Manifest) -> None:
    table = Table(file="embed_tokens.bin", dtype="float32", shape=(16, 9))
    with pytest.raises(BundleError, match=r"embed_tokens has shape \[16, 9\], the model needs \[16, 8\]"):
        replace(plain_manifest, embed_tokens=table)


def test_a_target_needs_a_name(plain_manifest: Manifest) -> None:
    with pytest.raises(BundleError, match="target has no name"):
        replace(plain_manifest, target={})


def test_a_hub_model_needs_its_revision() -> None:
    with pytest.raises(BundleError, match="needs its id and revision"):
        ModelSource(name="m", source="hub", id="org/m", revision=None, files={})


@pytest.mark.parametrize("sha256", ["", "0" * 63, "0" * 63 + "G", "A" * 64])
def test_what_is_not_a_hash_is_refused(sha256: str) -> None:
    with pytest.raises(BundleError, match="is not a SHA-256"):
        FileEntry(sha256=sha256, bytes=0)


def test_a_graphs_files_are_it_and_the_weights_that_all_dialects_share(plain_manifest: Manifest) -> None:
    names = ("decoder.ort.onnx", "decoder.tensorrt.onnx", "decoder.data", "vision.data", "vision.ort.onnx")
    entries = {name: FileEntry(sha256="0" * 64, bytes=1) for name in names}
    files = {**{name: FileEntry(sha256="0" * 64, bytes=1) for name in plain_manifest.named_files().values()}, **entries}
    for table in (plain_manifest.embed_tokens, plain_manifest.positions):
        files[table.file] = FileEntry(sha256="0" * 64, bytes=table.size_bytes)
    found = replace(plain_manifest, files=files).graph_files("decoder.ort.onnx")
    assert sorted(found) == ["decoder.data", "decoder.ort.onnx"]


def test_a_cache_of_a_type_that_does_not_exist_is_refused(value: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match="a cache of int5 does not exist; there are int8, float8"):
        Manifest.from_json(value | {"precision": value["precision"] | {"cache": "int5"}})


def test_a_manifest_without_the_type_of_its_cache_is_refused(value: dict[str, Any]) -> None:
    precision = {key: item for key, item in value["precision"].items() if key != "cache"}
    with pytest.raises(BundleError, match="cache"):
        Manifest.from_json(value | {"precision": precision})
