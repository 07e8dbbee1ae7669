"""The vision engine on ONNX Runtime."""

from pathlib import Path

from phiedge.bundle import ModelFacts
from phiedge.engines.interface import Array
from phiedge.engines.onnxruntime.buffers import alias
from phiedge.engines.onnxruntime.graph_run import GraphRun, float_type


class OrtVision:
    """`patches [n, patch values]` and `pos_embed [n, channels]` to `features [n, hidden]`, at any n."""

    def __init__(self, path: Path, facts: ModelFacts, *, threads: int) -> None:
        self._run = GraphRun(path, threads=threads)
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
        self._binding.bind_ortvalue_input("patches", alias(patches))
        self._binding.bind_ortvalue_input("pos_embed", alias(positions))
        self._binding.bind_ortvalue_output("features", alias(out))
        self._run(self._binding)

    def stop(self) -> None:
        """End a run in progress, and every later one until `rearm`; callable from any thread."""
        self._run.stop()

    def rearm(self) -> None:
        """Allow runs again after `stop`."""
        self._run.rearm()
