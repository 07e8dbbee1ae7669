import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

from fake_checkpoints import write_checkpoint
from phiedge.errors import CheckpointError, DeviceError, MissingExtraError
from phiedge.exporters.checkpoint import open_checkpoint
from phiedge.exporters.config import ModelConfig
from phiedge.exporters.hub import ALLOWED_FILES, DESCRIBING_FILES, HubId, download

COMMIT = "7df902e2fec3" + "0" * 28
HUB_ID = HubId(id="owner/model", revision=None)


def answer(
    monkeypatch: pytest.MonkeyPatch, path: Path | None = None, error: Exception | None = None
) -> list[dict[str, Any]]:
    """Put a stand-in in the place of the downloader; the list holds what it was asked for."""
    asked: list[dict[str, Any]] = []

    def snapshot_download(repo_id: str, **options: Any) -> str:
        asked.append({"repo_id": repo_id} | options)
        if error is not None:
            raise error
        return str(path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return asked


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("owner/model", HubId(id="owner/model", revision=None)),
        ("microsoft/Phi-4-reasoning-vision-15B", HubId(id="microsoft/Phi-4-reasoning-vision-15B", revision=None)),
        ("owner/model@main", HubId(id="owner/model", revision="main")),
        ("owner/model@refs/pr/3", HubId(id="owner/model", revision="refs/pr/3")),
        (f"owner/model@{COMMIT}", HubId(id="owner/model", revision=COMMIT)),
        ("model", None),
        ("a/b/c", None),
        ("./model", None),
        ("../model", None),
        ("/abs/model", None),
        ("owner/../model", None),
        ("owner/model@", None),
        ("owner/mödel", None),
        ("owner/model\n", None),
        ("", None),
    ],
)
def test_a_hub_id_is_told_from_a_path(text: str, found: HubId | None) -> None:
    assert HubId.parse(text) == found


def test_a_snapshot_is_opened_with_its_revision_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answer(monkeypatch, write_checkpoint(tmp_path / "snapshots" / COMMIT))
    with open_checkpoint("owner/model@main") as model:
        assert (model.source, model.id, model.revision) == ("hub", "owner/model", COMMIT)
    assert asked == [{"repo_id": "owner/model", "revision": "main", "allow_patterns": list(ALLOWED_FILES)}]


def test_what_does_not_suit_is_refused_before_its_weights_are_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = answer(monkeypatch, write_checkpoint(tmp_path / "snapshots" / COMMIT))
    seen: list[int] = []

    def refuse(config: ModelConfig) -> None:
        seen.append(config.num_layers)
        raise DeviceError("too large")

    with pytest.raises(DeviceError, match="too large"):
        open_checkpoint("owner/model", accept=refuse)
    assert seen == [2]
    assert [one["allow_patterns"] for one in asked] == [list(DESCRIBING_FILES)]
    assert not any(fnmatch("model-00001-of-00002.safetensors", pattern) for pattern in DESCRIBING_FILES)
    with open_checkpoint("owner/model", accept=lambda config: None) as model:
        assert model.revision == COMMIT
    assert [one["revision"] for one in asked[1:]] == [None, COMMIT]


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("config.json", True),
        ("model.safetensors", True),
        ("model-00003-of-00007.safetensors", True),
        ("model.safetensors.index.json", True),
        ("tokenizer.json", True),
        ("chat_template.jinja", True),
        ("modeling_phi4_visionr.py", False),
        ("processing_phi4_visionr.py", False),
        ("pytorch_model.bin", False),
        ("pytorch_model.bin.index.json", False),
        ("training_args.bin", False),
        ("adapter_model.safetensors", False),
        ("onnx/model.onnx", False),
        ("README.md", False),
    ],
)
def test_only_data_is_fetched(name: str, allowed: bool) -> None:
    assert any(fnmatch(name, pattern) for pattern in ALLOWED_FILES) is allowed


@pytest.mark.parametrize(
    "error",
    [
        LocalEntryNotFoundError("Cannot find the snapshot\nand more lines"),
        HFValidationError("Repo id must be shorter"),
        ConnectionError("offline mode is enabled"),
        TimeoutError(),
        RuntimeError("whatever the HTTP library raises this year"),
    ],
)
def test_what_cannot_be_downloaded_says_why_and_what_to_do(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, error=error)
    with pytest.raises(CheckpointError) as caught:
        download(HUB_ID)
    first_line = (str(error).splitlines() or [type(error).__name__])[0]
    assert caught.value.message == f"owner/model could not be downloaded and is no directory here: {first_line}"
    assert caught.value.remedy is not None
    assert "give the directory" in caught.value.remedy


def test_a_full_disk_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, error=OSError(28, "No space left on device"))
    with pytest.raises(OSError, match="No space left"):
        download(HUB_ID)


def test_without_a_network_the_hubs_own_answer_becomes_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match="owner/model could not be downloaded"):
        open_checkpoint("owner/model")


def test_without_a_network_a_cached_snapshot_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    write_checkpoint(tmp_path / "models--owner--model" / "snapshots" / COMMIT)
    (tmp_path / "models--owner--model" / "refs").mkdir()
    (tmp_path / "models--owner--model" / "refs" / "main").write_text(COMMIT)
    with open_checkpoint("owner/model") as model:
        assert model.revision == COMMIT
        model.check()


def test_without_the_extra_the_pip_line_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match="downloading owner/model needs the 'export' extra") as caught:
        download(HUB_ID)
    assert caught.value.remedy == "pip install 'phiedge[export]'"


def test_a_cache_that_does_not_name_the_revision_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, tmp_path)
    with pytest.raises(CheckpointError, match="does not say which revision"):
        download(HUB_ID)
