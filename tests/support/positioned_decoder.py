"""Running decoder graphs of the tensorrt dialect on ONNX Runtime, as an engine with chunks of a fixed size would."""

from pathlib import Path

import numpy as np

from ort_graphs import open_graph


class PositionedDecoder:
    """A decoder graph with caches of zeros; `padding` is what the rows after the last that counts are filled with.

    Caches that a graph only reads are written here, as a runtime would.
    """

    def __init__(self, path: Path | bytes, *, padding: float = 7.0) -> None:
        self.session = open_graph(path)
        ports = {port.name: port for port in self.session.get_inputs()}
        self.dtype = np.float16 if "float16" in ports["inputs_embeds"].type else np.float32
        self.caches = {
            name.removeprefix("past."): np.zeros(port.shape, self.dtype)
            for name, port in ports.items()
            if name.startswith("past.")
        }
        *_, present = self.session.get_outputs()
        self.gives_rows = isinstance(present.shape[2], str)
        self.padding = padding
        self.length = 0

    def run(self, rows: np.ndarray, *, pad_to: int = 0, last_row: int | None = None) -> np.ndarray:
        """Append `rows: [t, hidden]` and return the logits [vocab] of the last one, or of `last_row`."""
        chunk = max(pad_to, len(rows))
        embeds = np.full((1, chunk, rows.shape[1]), self.padding, self.dtype)
        embeds[0, : len(rows)] = rows
        positions = np.arange(self.length, self.length + chunk)
        last = len(rows) - 1 if last_row is None else last_row
        feeds = {"inputs_embeds": embeds, "position_ids": positions[None], "last_row": np.array([last])}
        feeds |= {f"past.{name}": cache for name, cache in self.caches.items()}
        names = ["logits", *(f"present.{name}" for name in self.caches)]
        logits, *present = self.session.run(names, feeds)
        self._keep(dict(zip(self.caches, present, strict=True)), len(rows))
        self.length += len(rows)
        return logits[0, 0]

    def _keep(self, present: dict[str, np.ndarray], count: int) -> None:
        """Take over caches that the graph has written, or put the first `count` of its new rows into them."""
        if not self.gives_rows:
            self.caches = present
            return
        for name, rows in present.items():
            self.caches[name][:, :, self.length : self.length + count] = rows[:, :, :count]

    def prefill(self, rows: np.ndarray, *, chunk: int, padded: bool = False) -> np.ndarray:
        """Run all of `rows` in chunks and return the logits of the last row."""
        for start in range(0, len(rows), chunk):
            logits = self.run(rows[start : start + chunk], pad_to=chunk if padded else 0)
        return logits
