"""A model to try an export with before its 30 GB are there: a directory with config.json, and random weights.

    with open_random_weights("phi4", seed=0) as source:
        source.names()

Everything but the values is that of the real checkpoint, and it is checked in the same way. What the directory has of
tokenizer and chat template is used; what it lacks is made (`stand_in.py`). The answers of such a model mean nothing,
and everything that comes of it says so.
"""

import json
import math
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType

from phiedge.bundle import FileEntry, hash_file
from phiedge.errors import CheckpointError, ConfigError, TensorError, UsageError
from phiedge.exporters.companions import GENERATION_FILE, PREPROCESSOR_FILE
from phiedge.exporters.config import ModelConfig
from phiedge.exporters.hub import HubId
from phiedge.exporters.json_object import JsonObject, read_object
from phiedge.exporters.random_tensors import RandomTensors
from phiedge.exporters.safetensors_file import Array, Dtype
from phiedge.exporters.source import Block, SourceKind
from phiedge.exporters.stand_in import TEMPLATE, stand_in_tokenizer
from phiedge.exporters.tensors import expected_tensors
from phiedge.exporters.weight_files import INDEX_FILE
from phiedge.progress import Progress, silent

_CONFIG, _TOKENIZER, _TEMPLATE = "config.json", "tokenizer.json", "chat_template.jinja"
_READ = (_CONFIG, _TOKENIZER, _TEMPLATE, GENERATION_FILE, PREPROCESSOR_FILE, INDEX_FILE)
_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".gguf")
_ITEM_BYTES = 2  # bfloat16
# Far beyond what an export could be for; a config.json that asks for more is damaged, and would fill the memory.
_MOST_TENSORS, _MOST_PARAMETERS, _MOST_IDS = 100_000, 1_000_000_000_000, 10_000_000


def open_random_weights(model: str | os.PathLike[str], *, seed: int) -> "RandomWeights":
    """Open the directory `model`, which has config.json and no weights. Raises `UsageError`, `CheckpointError`.

    An index of shards (`model.safetensors.index.json`) may be there; it must then name the tensors that the
    configuration asks for.
    """
    text = os.fspath(model)
    directory = Path(text)
    if type(seed) is not int or seed < 0:
        raise UsageError(f"a seed is a whole number from 0 on, not {seed!r}", remedy="--seed 0")
    if not directory.is_dir():
        raise _not_a_directory(text)
    if not (directory / _CONFIG).is_file():
        raise CheckpointError(
            f"{directory} has no {_CONFIG}, which random weights take their shapes from",
            remedy=f"put the model's {_CONFIG} there, and if you have them {_TOKENIZER} and {_TEMPLATE}",
        )
    for path in sorted(directory.iterdir()):
        if path.name.endswith(_WEIGHT_SUFFIXES):
            raise UsageError(
                f"{directory} has weights ({path.name}), which random ones would replace without a word",
                remedy=f"leave --random-weights out, or give a directory with {_CONFIG} alone",
            )
    return RandomWeights(directory, seed=seed)


class RandomWeights:
    """An open source (`exporters/source.py`); get one from `open_random_weights`, and close it.

    `path` is the directory that was given, or where that lacks a tokenizer or template a temporary one that has both.
    """

    def __init__(self, directory: Path, *, seed: int) -> None:
        found = {name: directory / name for name in _READ if (directory / name).is_file()}
        self.config, tokenizer = _read(directory, found)
        self._seed = seed
        self._tensors = RandomTensors(self.config, seed=seed)
        if INDEX_FILE in found:
            _check_index(found[INDEX_FILE], self._tensors.names())
        self._files = {
            name: FileEntry(sha256=hash_file(path), bytes=path.stat().st_size) for name, path in sorted(found.items())
        }
        self.name = f"{directory.resolve().name} (random weights)"
        self.source: SourceKind = "random"
        self.id = None
        self._stand_ins = tuple(name for name in (_TOKENIZER, _TEMPLATE) if name not in found)
        self._completed = _completed(found, tokenizer) if self._stand_ins else None
        self.path = directory if self._completed is None else Path(self._completed.name)

    def __enter__(self) -> "RandomWeights":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the temporary directory, if there is one."""
        if self._completed is not None:
            self._completed.cleanup()

    @property
    def revision(self) -> str:
        """The seed, and which files nobody published."""
        made = "".join(f", stand-in {name}" for name in self._stand_ins)
        return f"seed {self._seed}{made}"

    @property
    def notes(self) -> tuple[str, ...]:
        """What whoever meets the bundle has to know."""
        notes = [f"the weights are random (seed {self._seed}): what this bundle answers means nothing"]
        notes += [f"{name} is a stand-in: the model's own was not there" for name in self._stand_ins]
        return tuple(notes)

    def names(self) -> tuple[str, ...]:
        """Every tensor of the architecture."""
        return self._tensors.names()

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape, rows first."""
        return self._tensors.shape(name)

    def dtype(self, name: str) -> Dtype:
        """bfloat16, in which the 15B is published."""
        assert name in self._tensors.names(), name
        return "bfloat16"

    def tensor(self, name: str, rows: slice | None = None) -> Array:
        """The tensor, or some of its rows, as the bits of bfloat16; made anew each time."""
        return self._tensors.tensor(name, rows)

    def blocks(
        self, wanted: Collection[str], *, block_bytes: int, known: Mapping[str, FileEntry] | None = None
    ) -> Iterator[Block]:
        """The tensors of `wanted`; the values are made where `load` is called. There is nothing to hash."""
        for name in self.names():
            if name in wanted:
                rows, *rest = self.shape(name)
                step = max(1, block_bytes // (_ITEM_BYTES * math.prod(rest)))
                for first in range(0, rows, step):
                    stop = min(first + step, rows)
                    yield Block(
                        name=name,
                        dtype="bfloat16",
                        first_row=first,
                        shape=(stop - first, *rest),
                        load=partial(self._tensors.tensor, name, slice(first, stop)),
                    )

    def check(self) -> None:
        """Nothing to find: names and shapes come from the architecture, and the index was compared on opening."""

    def fingerprint(self) -> dict[str, str]:
        """The seed and the files that were read."""
        return {"seed": str(self._seed)} | {name: entry.sha256 for name, entry in self._files.items()}

    def digests(self) -> dict[str, FileEntry]:
        """The files that were read; weights are in none."""
        return dict(self._files)

    def files(self, progress: Progress = silent) -> dict[str, FileEntry]:
        """The files that were read; stand-ins are not among them."""
        return dict(self._files)


def _not_a_directory(text: str) -> UsageError:
    if text == "reference":
        return UsageError(
            "the model 'reference' comes with its trained weights", remedy="leave --random-weights out of its export"
        )
    hub_id = HubId.parse(text)
    if hub_id is not None and not Path(text).exists():
        return UsageError(
            f"random weights need a directory with {_CONFIG}; there is no directory {text}, and nothing is downloaded",
            remedy=f"hf download {hub_id.id} {_CONFIG} {_TOKENIZER} {_TEMPLATE} --local-dir DIR, and then --model DIR",
        )
    state = "is a file" if Path(text).exists() else "does not exist"
    return UsageError(
        f"random weights need a directory with {_CONFIG}; {text} {state}", remedy=f"give the directory of {_CONFIG}"
    )


def _read(directory: Path, found: Mapping[str, Path]) -> tuple[ModelConfig, JsonObject]:
    """The configuration with its tokenizer, which is the one that is there or a stand-in."""
    config = read_object(directory / _CONFIG)
    generation = read_object(found[GENERATION_FILE]) if GENERATION_FILE in found else None
    preprocessor = read_object(found[PREPROCESSOR_FILE]) if PREPROCESSOR_FILE in found else None
    if _TOKENIZER in found:
        tokenizer = read_object(found[_TOKENIZER])
    else:
        alone = ModelConfig.from_json(config, generation=generation, preprocessor=preprocessor)
        _check_size(alone)
        tokenizer = stand_in_tokenizer(alone.tokens, alone.vocab_size)
    whole = ModelConfig.from_json(config, generation=generation, preprocessor=preprocessor, tokenizer=tokenizer)
    _check_size(whole)
    return whole, tokenizer


def _check_size(config: ModelConfig) -> None:
    """Weights that exist bound a configuration; here it is alone."""
    parameters = 0
    for count, (_, spec) in enumerate(expected_tensors(config), start=1):
        parameters += spec.parameters
        if count > _MOST_TENSORS or parameters > _MOST_PARAMETERS or config.vocab_size > _MOST_IDS:
            raise ConfigError(
                f"{_CONFIG} makes a model with more than {_MOST_TENSORS:,} tensors, {_MOST_PARAMETERS:,} parameters or "
                f"{_MOST_IDS:,} ids: {config.num_layers} layers of {config.hidden_size}, {config.vocab_size} ids",
                remedy=f"take {_CONFIG} from the model's repository; the 15B has 40 layers of 5120 and 100352 ids",
            )


def _check_index(index: Path, names: Collection[str]) -> None:
    """An index without its shards still tells which tensors the shards hold."""
    weight_map = read_object(index).get("weight_map")
    listed = set(weight_map) if isinstance(weight_map, dict) else set()
    for name in sorted(listed.symmetric_difference(names)):
        lacks, has = (index.name, _CONFIG) if name in names else (_CONFIG, index.name)
        raise TensorError(
            f"{index}: {name} is a tensor of {has} and not of {lacks}",
            tensor=name,
            remedy=f"take {_CONFIG} and {INDEX_FILE} from the same repository",
        )


def _completed(found: Mapping[str, Path], tokenizer: JsonObject) -> "tempfile.TemporaryDirectory[str]":
    """The files that were found, and stand-ins for the others, in a directory of their own."""
    completed = tempfile.TemporaryDirectory(prefix="phiedge-")
    try:
        directory = Path(completed.name)
        (directory / _TOKENIZER).write_bytes(json.dumps(tokenizer).encode())
        (directory / _TEMPLATE).write_bytes(TEMPLATE.encode())
        for name, path in found.items():
            shutil.copyfile(path, directory / name)
    except BaseException:
        completed.cleanup()
        raise
    return completed
