"""A Hugging Face Hub id, downloaded as data only: weights as safetensors, JSON, the tokenizer and the chat template.

No code of the repository is fetched, let alone run. The whole snapshot goes through the hub's own cache, and what is
exported is always the directory: the publisher's own loader, given an id, would take the vision tower from another
repository than the decoder.
"""

import errno
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from phiedge.errors import CheckpointError, MissingExtraError

# What a checkpoint is made of. Patterns of huggingface_hub, where `*` also crosses a slash.
ALLOWED_FILES = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "model.safetensors",
    "model-*-of-*.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
# What tells the shapes of a model, and is read before gigabytes are fetched.
DESCRIBING_FILES = tuple(name for name in ALLOWED_FILES if not name.endswith(".safetensors"))
_HUB_ID = re.compile(r"(?P<id>[\w-][\w.-]*/[\w-][\w.-]*)(@(?P<revision>[\w./-]+))?", re.ASCII)
# Faults of this machine, which the caller shows as they are.
_OF_THE_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class HubId:
    """A repository of the Hub; `revision` is a branch, a tag or a commit, and None means its main branch."""

    id: str
    revision: str | None

    @staticmethod
    def parse(text: str) -> "HubId | None":
        """`owner/name` or `owner/name@revision`, or None for anything else."""
        match = _HUB_ID.fullmatch(text)
        return HubId(id=match["id"], revision=match["revision"]) if match else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A downloaded repository and the commit that it is."""

    id: str
    path: Path
    revision: str


def download(hub_id: HubId, *, files: Sequence[str] = ALLOWED_FILES) -> Snapshot:
    """Fetch `files` of the snapshot, or find them in the cache.

    Raises `MissingExtraError`, or `CheckpointError` saying why not. Without a network a snapshot that is already in the
    cache is used.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingExtraError(what=f"downloading {hub_id.id}", extra="export", missing="huggingface_hub") from error
    try:
        found = snapshot_download(hub_id.id, revision=hub_id.revision, allow_patterns=list(files))
    except Exception as error:  # the hub's client lets through the errors of the HTTP library that it uses this year
        if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
            raise
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise CheckpointError(
            f"{hub_id.id} could not be downloaded and is no directory here: {reason}",
            remedy="check the name and the network (HF_TOKEN for a private repository), or download it on another "
            "machine and give the directory",
        ) from error
    path = Path(found)
    if not _COMMIT.fullmatch(path.name):
        raise CheckpointError(f"the cache of {hub_id.id} does not say which revision it is: {path}")
    return Snapshot(id=hub_id.id, path=path, revision=path.name)
