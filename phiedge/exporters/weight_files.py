"""Which files of a directory hold its weights: one `model.safetensors`, or the shards that an index lists.

Opening reads every shard's header and none of its tensors, so that a shard which is missing, cut short or not what the
index says is found before any work is done.
"""

from contextlib import ExitStack, closing
from pathlib import Path

from phiedge.errors import CheckpointError, TensorError
from phiedge.exporters.json_object import read_object
from phiedge.exporters.safetensors_file import SafetensorsFile

SINGLE_FILE, INDEX_FILE = "model.safetensors", "model.safetensors.index.json"
_PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_REMEDY = "copy or download the checkpoint again"


def open_weights(directory: Path) -> list[SafetensorsFile]:
    """Open all weight files of `directory`, headers checked. Raises `CheckpointError`; nothing stays open then."""
    weight_map = _read_index(directory)
    names = sorted(set(weight_map.values())) if weight_map is not None else [SINGLE_FILE]
    _refuse_strangers(directory, names)
    with ExitStack() as until_checked:
        files = [until_checked.enter_context(closing(SafetensorsFile(directory / name))) for name in names]
        if weight_map is not None:
            _check_index(weight_map, files, directory / INDEX_FILE)
        until_checked.pop_all()
    return files


def _read_index(directory: Path) -> dict[str, str] | None:
    """Tensor name to file name, or None for a single file."""
    index, single = directory / INDEX_FILE, directory / SINGLE_FILE
    if index.exists() and single.exists():
        raise CheckpointError(
            f"{directory} has both {SINGLE_FILE} and {INDEX_FILE}, which may be two different models",
            remedy="remove the one that is not meant",
        )
    if single.exists():
        return None
    if not index.exists():
        raise _no_weights(directory)
    weight_map = read_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index} has no weight_map", remedy=_REMEDY)
    for tensor, name in weight_map.items():
        if not isinstance(name, str) or not name.endswith(".safetensors") or Path(name).name != name or "\\" in name:
            raise CheckpointError(
                f"{index} puts {tensor} into {name!r}, which is not a safetensors file of the directory",
                remedy="phiedge reads safetensors only, beside their index",
            )
        if not (directory / name).is_file():
            raise CheckpointError(f"{index} names the shard {name}, which is missing", remedy=_REMEDY)
    return weight_map


def _no_weights(directory: Path) -> CheckpointError:
    files = sorted(path.name for path in directory.iterdir())
    pickles = [name for name in files if name.endswith(_PICKLE_SUFFIXES)]
    shards = [name for name in files if name.endswith(".safetensors")]
    if shards:
        return CheckpointError(f"{directory} has {shards[0]} but no {INDEX_FILE}", remedy=_REMEDY)
    if pickles:
        return CheckpointError(
            f"{directory} has its weights as pickles ({pickles[0]}), which can run code and are not read",
            remedy="convert the checkpoint to safetensors in a place that you trust",
        )
    return CheckpointError(
        f"{directory} has no weights: neither {SINGLE_FILE} nor {INDEX_FILE}",
        remedy="give a directory with safetensors; to try the export before you have them: --random-weights",
    )


def _refuse_strangers(directory: Path, names: list[str]) -> None:
    for path in sorted(directory.glob("*.safetensors")):
        if path.name not in names:
            raise CheckpointError(
                f"{path} belongs to no index: an adapter, or a shard of another checkpoint",
                remedy="merge or remove it; phiedge leaves no weights out silently",
            )


def _check_index(weight_map: dict[str, str], files: list[SafetensorsFile], index: Path) -> None:
    """The index and the shards' headers must agree on every tensor."""
    for file in files:
        for tensor in file.tensors:
            if weight_map.get(tensor) != file.path.name:
                said = f"puts it into {weight_map[tensor]}" if tensor in weight_map else "does not list it"
                raise TensorError(f"{file.path} holds {tensor}, but {index.name} {said}", tensor=tensor, remedy=_REMEDY)
    held = {tensor for file in files for tensor in file.tensors}
    for tensor, name in weight_map.items():
        if tensor not in held:
            raise TensorError(f"{index.name} puts {tensor} into {name}, which lacks it", tensor=tensor, remedy=_REMEDY)
