"""The disk at work while the graphs are traced: the beginning of the weights comes into the page cache meanwhile.

Tracing takes a processor and no disk, the stream that follows waits for the disk more than for anything else. Nothing
depends on it: whoever reads afterwards reads the same bytes, only sooner.
"""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from phiedge.devices.memory_limits import available_memory
from phiedge.exporters.safetensors_file import SafetensorsFile

_STEP_BYTES = 8 << 20
_WORTH_BYTES = 1 << 30  # smaller checkpoints are read in no time
_SHARE_OF_MEMORY = 4  # of what is available, a fourth at most: the page cache is everybody's


@contextmanager
def reading_ahead(files: Sequence[SafetensorsFile]) -> Iterator[None]:
    """Inside, a thread reads `files` from their beginning, as far as there is memory to keep them."""
    memory = available_memory()
    limit_bytes = 0 if memory is None else memory.bytes // _SHARE_OF_MEMORY
    if sum(file.size_bytes for file in files) < _WORTH_BYTES or limit_bytes < _WORTH_BYTES:
        yield
        return
    stop = threading.Event()
    thread = threading.Thread(target=_read, args=(files, limit_bytes, stop), name="read-ahead", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _read(files: Sequence[SafetensorsFile], limit_bytes: int, stop: threading.Event) -> None:
    buffer = memoryview(bytearray(_STEP_BYTES))
    for file in files:
        position = 0
        while limit_bytes > 0 and not stop.is_set():
            try:
                count = os.preadv(file.descriptor, [buffer], position)
            except OSError:  # whoever needs these bytes meets it again, and tells
                return
            if count == 0:
                break
            position += count
            limit_bytes -= count
