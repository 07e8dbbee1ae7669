"""One pass over a source of weights: what it holds becomes data files that only grow.

    reader (reads, lets hash) -> workers (convert, quantise) -> this thread (appends, hashes, keeps the journal)

Tensors come in the order of the source and the files are laid out in that order, so nothing is read twice, written
twice, or read back to be hashed. The bytes do not depend on the number of threads, nor on the size of blocks. Memory
holds a bounded number of blocks and the scales of one tensor, whatever the size of the model.
"""

import hashlib
import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from phiedge.bundle import FileEntry
from phiedge.exporters.append_file import AppendFile, raw_bytes
from phiedge.exporters.journal import Journal, JournalEntry
from phiedge.exporters.ordered_work import in_order
from phiedge.exporters.quantised import QuantisedTensor, Quantiser, RowErrors
from phiedge.exporters.source import Block, WeightSource
from phiedge.exporters.values import StoredRows
from phiedge.exporters.weights import (
    Array,
    ComputedFill,
    DataFile,
    Fill,
    Float8Fill,
    GroupedFill,
    SourceFill,
    convert,
)
from phiedge.progress import Progress, silent

BLOCK_BYTES = 8 << 20  # of stored weights: the reader's step
BLOCKS_WAITING = 4  # more blocks than there are threads, so that nobody waits for anybody for long
MOST_THREADS = 8  # more only wait: one thread reads, one writes, and each hashes what passes
_DIGITS = 6  # of an error in the report
_FLOAT8_METHOD = "float8-by-row"  # of weights that no quantiser chooses codes for

Converted: TypeAlias = tuple[tuple[Array, ...], RowErrors | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """The report's rows in the order of the source, and the size and hash of every data file."""

    rows: tuple[QuantisedTensor, ...]
    entries: Mapping[str, FileEntry]


def write_weights(
    files: Sequence[DataFile],
    source: WeightSource,
    quantiser: Quantiser,
    directory: Path,
    *,
    journal: Journal | None = None,
    threads: int | None = None,
    progress: Progress = silent,
) -> Written:
    """Write `files` into `directory`; with a journal, from where that says it ended on.

    `threads` convert and quantise; by default as many as there are cores, at most 8. Raises `TensorError` for values
    that are not finite, `ExportError` where a value does not fit the type it is stored as, `CheckpointError` for a
    source that changes meanwhile.
    """
    with ExitStack() as stack:
        outputs = _take_up(files, directory, journal, stack, progress)
        if outputs is None:
            assert journal is not None
            journal.start_anew("what it holds is not what was written")
            outputs = {file.name: stack.enter_context(AppendFile.fresh(directory / file.name)) for file in files}
        if journal is not None:
            stack.enter_context(journal)
        total_bytes = sum(file.size_bytes for file in files)
        stream = _Stream(files, outputs, source, quantiser, journal)
        advance = stack.enter_context(progress.task("write weights", total_bytes, "B"))
        stream.run(threads or min(len(os.sched_getaffinity(0)), MOST_THREADS), advance)
        return Written(rows=tuple(stream.rows), entries={name: file.entry() for name, file in outputs.items()})


def _take_up(
    files: Sequence[DataFile], directory: Path, journal: Journal | None, stack: ExitStack, progress: Progress
) -> dict[str, AppendFile] | None:
    """The data files, open, with what the journal says that they hold; None where one does not."""
    held = journal.entry.files if journal is not None and journal.entry is not None else {}
    outputs = {}
    with progress.task("check what is there", sum(entry.bytes for entry in held.values()), "B") as advance:
        for file in files:
            path = directory / file.name
            output = AppendFile.resumed(path, held[file.name]) if file.name in held else AppendFile.fresh(path)
            if output is None:
                return None
            outputs[file.name] = stack.enter_context(output)
            advance(output.size_bytes)
    return outputs


class _Stream:
    """The state of one pass: `rows` grows with every quantised tensor, `_done` with every fill."""

    def __init__(
        self,
        files: Sequence[DataFile],
        outputs: Mapping[str, AppendFile],
        source: WeightSource,
        quantiser: Quantiser,
        journal: Journal | None,
    ) -> None:
        ranks = {name: rank for rank, name in enumerate(source.names())}
        self._fills = sorted(
            ((file, fill) for file in files for fill in file.fills),
            key=lambda pair: -1 if pair[1].source is None else ranks[pair[1].source],
        )
        self._outputs = outputs
        self._source = source
        self._quantiser = quantiser
        self._journal = journal
        entry = journal.entry if journal is not None else None
        self._known = entry.sources if entry is not None else {}
        self._done = entry.done if entry is not None else 0
        self.rows = list(entry.rows) if entry is not None else []

    def run(self, threads: int, advance: Callable[[int], None]) -> None:
        """Write all that is not there yet; `advance` is told of every byte that is in the files."""
        advance(self._written_bytes())
        while self._done < len(self._fills) and isinstance(fill := self._fills[self._done][1], ComputedFill):
            tensor = self._next_tensor()
            advance(tensor.add((fill.values().astype(fill.slot.dtype.numpy()),), None) + self._finish(tensor))
        left = {fill.source: fill for _, fill in self._fills[self._done :] if not isinstance(fill, ComputedFill)}
        blocks = self._source.blocks(left.keys(), block_bytes=BLOCK_BYTES, known=self._known)
        results = in_order(
            blocks,
            lambda block: _convert(block, left[block.name], self._quantiser),
            release=lambda block: block.release(),
            threads=threads,
            in_flight=threads + BLOCKS_WAITING,
        )
        with closing(results):
            for block, (parts, errors) in results:
                if block.first_row == 0:
                    tensor = self._next_tensor()
                assert tensor.fill.source == block.name, f"{block.name} came in place of {tensor.fill.source}"
                advance(tensor.add(parts, errors))
                if block.rows.stop == self._source.shape(block.name)[0]:
                    advance(self._finish(tensor))
        assert self._done == len(self._fills), f"the source ended before {self._fills[self._done][1].source}"
        if self._journal is not None:
            self._journal.close_with(self._entry, self._flush)

    def _next_tensor(self) -> "_Tensor":
        file, fill = self._fills[self._done]
        return _Tensor(file, fill, self._outputs[file.name])

    def _finish(self, tensor: "_Tensor") -> int:
        written_bytes = tensor.finish()
        if isinstance(tensor.fill, GroupedFill):
            self.rows.append(tensor.row(tensor.fill, self._quantiser.method))
        elif isinstance(tensor.fill, Float8Fill):
            self.rows.append(tensor.row(tensor.fill, _FLOAT8_METHOD))
        self._done += 1
        if self._journal is not None:
            self._journal.consider(self._written_bytes(), self._entry, self._flush)
        return written_bytes

    def _written_bytes(self) -> int:
        return sum(output.size_bytes for output in self._outputs.values())

    def _entry(self, key: str) -> JournalEntry:
        return JournalEntry(
            key=key,
            done=self._done,
            files={name: output.entry() for name, output in self._outputs.items()},
            rows=tuple(self.rows),
            sources=self._source.digests(),
        )

    def _flush(self) -> None:
        for output in self._outputs.values():
            output.flush()


def _convert(block: Block, fill: SourceFill, quantiser: Quantiser) -> Converted:
    rows = StoredRows(name=block.name, dtype=block.dtype, first_row=block.first_row, values=block.load())
    return convert(fill, rows, quantiser)


class _Tensor:
    """One fill on its way into its file: the first slot is written as it comes, the others wait for its end."""

    def __init__(self, file: DataFile, fill: Fill, output: AppendFile) -> None:
        self.fill = fill
        self._file = file
        self._output = output
        self._waiting: list[list[Array]] = [[] for _ in fill.slots[1:]]
        self._errors: list[RowErrors] = []
        self._digest = hashlib.sha256()
        output.pad_to(file.offsets[fill.slots[0].key])

    def add(self, parts: tuple[Array, ...], errors: RowErrors | None) -> int:
        """Take the next rows; return how many bytes were written."""
        first, *others = parts
        for waiting, part in zip(self._waiting, others, strict=True):
            waiting.append(part)
        if errors is not None:
            self._errors.append(errors)
        return self._append(first)

    def finish(self) -> int:
        """Write what waited; return how many bytes that was."""
        written_bytes = 0
        for slot, parts in zip(self.fill.slots[1:], self._waiting, strict=True):
            self._output.pad_to(self._file.offsets[slot.key])
            written_bytes += sum(self._append(part) for part in parts)
        last = self.fill.slots[-1]
        assert self._output.size_bytes == self._file.offsets[last.key] + last.size_bytes, f"{last.key} is not full"
        return written_bytes

    def _append(self, part: Array) -> int:
        if isinstance(self.fill, GroupedFill | Float8Fill):
            self._digest.update(raw_bytes(part))
        return self._output.append(part)

    def row(self, fill: GroupedFill | Float8Fill, method: str) -> QuantisedTensor:
        """The report's row; sums are exact, so that they do not depend on the blocks."""
        error = math.fsum(value for errors in self._errors for value in errors.squared_error)
        weight = math.fsum(value for errors in self._errors for value in errors.squared_weight)
        return QuantisedTensor(
            name=fill.source,
            method=method,
            bits=fill.bits,
            group_size=fill.group_size,
            accuracy_level=fill.accuracy_level,
            shape=fill.shape,
            relative_l2=_rounded((error / weight) ** 0.5 if weight else 0.0),
            max_abs_error=_rounded(max(errors.largest for errors in self._errors)),
            stored_bytes=sum(slot.size_bytes for slot in fill.slots),
            sha256=self._digest.hexdigest(),
        )


def _rounded(value: float) -> float:
    """To as many digits as are the same on every processor, whichever vector instructions it sums with."""
    return float(f"{value:.{_DIGITS}g}")
