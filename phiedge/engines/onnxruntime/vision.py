"""The vision engine on ONNX Runtime.

Arrays of the host are bound on every provider: on the CPU they are used in place, for a device ONNX Runtime copies them
when they are bound, and the features back when it has run.
"""

from functools import partial
from pathlib import Path

from phiedge.bundle import ModelFacts
from phiedge.engines.interface import Array
from phiedge.engines.onnxruntime.buffers import alias
from phiedge.engines.onnxruntime.device_thread import DeviceThread
from phiedge.engines.onnxruntime.graph_run import GraphRun, float_type
from phiedge.engines.onnxruntime.provider import Provider


class OrtVision:
    """`patches [n, patch values]` and `pos_embed [n, channels]` to `features [n, hidden]`, at any n.

    `thread` is given for a provider that wants all calls from one thread.
    """

    def __init__(
        self,
        path: Path,
        facts: ModelFacts,
        *,
        threads: int,
        provider: Provider | None = None,
        thread: DeviceThread | None = None,
    ) -> None:
        self._thread = thread
        opening = partial(GraphRun, path, threads=threads, provider=provider)
        self._run = opening() if thread is None else thread(opening)
        inputs = {
            "patches": (None, 3 * facts.patch_size**2),
            "pos_embed": (None, facts.vision_hidden_size),
        }
        types = self._run.check(inputs=inputs, outputs={"features": (None, facts.hidden_size)})
        self.input_dtype = float_type(path, types, "patches", "pos_embed")
        self.output_dtype = float_type(path, types, "features")
        self._binding = self._run.binding()

    def encode(self, patches: Array, positions: Array, out: Array) -> None:
        """Write the features of one picture into `out`. Raises `RunStoppedError`, or `SessionError` if it fails."""
        assert patches.dtype == positions.dtype == self.input_dtype
        assert out.dtype == self.output_dtype
        running = partial(self._encode, patches, positions, out)
        if self._thread is None:
            running()
        else:
            self._thread(running)

    def stop(self) -> None:
        """End a run in progress, and every later one until `rearm`; callable from any thread."""
        self._run.stop()

    def rearm(self) -> None:
        """Allow runs again after `stop`."""
        self._run.rearm()

    def _encode(self, patches: Array, positions: Array, out: Array) -> None:
        self._binding.bind_ortvalue_input("patches", alias(patches))
        self._binding.bind_ortvalue_input("pos_embed", alias(positions))
        self._binding.bind_ortvalue_output("features", alias(out))
        self._run(self._binding)
