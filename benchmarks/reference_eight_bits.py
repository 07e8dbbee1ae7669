"""The reference model in float8 (E4M3), and with a cache in float8 or int8: accuracy and divergence, computed in torch.

    python -m benchmarks.reference_eight_bits [--per-task 100] [--keep]

Nothing here runs in 8 bits: every number is rounded to what it would be stored as, and multiplied in float32. That is
what the formats cost; what an engine's own sums add is not in it.
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from benchmarks.record import add_options, publish
from phiedge.calibration.decoder_layer import LINEARS, LayerMath, Linear, linear_name, norm_names, read_tensor
from phiedge.calibration.eight_bit_run import EightBits, LayerScales, calibrate_eight_bits
from phiedge.calibration.eight_bits import rounded, row_scales
from phiedge.calibration.first_rows import write_first_rows
from phiedge.calibration.row_file import RowFile
from phiedge.exporters.checkpoint import Checkpoint, open_checkpoint
from phiedge.exporters.tensors import EMBEDDING_TABLE
from phiedge.pipeline.builtin_examples import builtin_examples
from phiedge.pipeline.calibration_samples import Example, SampleBuilder
from phiedge.progress import silent
from phiedge.reference.evaluate import SUITE, SUITE_CONTEXT, evaluate
from phiedge.runtime.tokens import Tokenizer

_ROWS = {
    "fp32": EightBits(linears=False, cache=None),
    "cache float8": EightBits(linears=False, cache="float8"),
    "cache int8": EightBits(linears=False, cache="int8"),
    "linears float8": EightBits(linears=True, cache=None),
    "linears and cache float8": EightBits(linears=True, cache="float8"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    answer: str


class TorchAnswerer:
    """Answers greedily, recomputing the whole sequence for every token: small models only."""

    def __init__(self, source: Checkpoint, what: EightBits, layers: Sequence[LayerScales], work: Path) -> None:
        config = source.config
        self._source, self._what, self._layers, self._work = source, what, layers, work
        self._builder = SampleBuilder(source, max_context=SUITE_CONTEXT)
        self._tokenizer = Tokenizer(source.path / "tokenizer.json", config.facts())
        self._facts = config.facts()
        self._math = LayerMath(config=config)
        self._norms = [tuple(read_tensor(source, name) for name in norm_names(i)) for i in range(config.num_layers)]
        self._weights = [_weights(source, i, what) for i in range(config.num_layers)]
        self._norm, self._head = read_tensor(source, "model.norm.weight"), read_tensor(source, "lm_head.weight")
        self._table = read_tensor(source, EMBEDDING_TABLE)

    def generate(self, prompt: str, images: Sequence[Image.Image], *, think: str, max_new_tokens: int) -> Said:
        assert think == "auto", think
        (sample,) = self._builder.build([Example(told="question", prompt=prompt, images=tuple(images))])
        rows = RowFile(self._work / "question", [sample.rows], self._source.config.hidden_size)
        write_first_rows(self._source, [sample], rows, silent)
        x, said = rows.read(0), list[int]()
        while len(said) < max_new_tokens:
            token = int(self._logits(x).argmax())
            if token in self._facts.eos_token_ids:
                break
            said.append(token)
            x = torch.cat([x, self._table[token][None]])
        if self._facts.end_think_token_id in said:
            said = said[said.index(self._facts.end_think_token_id) + 1 :]
        kept = [token for token in said if token != self._facts.nothink_token_id]
        said_bytes = b"".join(self._tokenizer.bytes_of(token) for token in kept)
        return Said(answer=said_bytes.decode("utf-8", "replace").strip())

    def _logits(self, x: Tensor) -> Tensor:
        for norms, weights, scales in zip(self._norms, self._weights, self._layers, strict=True):
            x = self._math.forward(x, (norms[0], norms[1]), scales.multiply(weights), scales.cached(self._what.cache))
        return functional.linear(self._math.normed(x[-1:], self._norm), self._head)[0]


def _weights(source: Checkpoint, layer: int, what: EightBits) -> Mapping[Linear, Tensor]:
    weights = {linear: read_tensor(source, linear_name(layer, linear)) for linear in LINEARS}
    if not what.linears:
        return weights
    return {linear: rounded(weight, row_scales(weight), "float8") for linear, weight in weights.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what 8 bits cost the reference model.")
    parser.add_argument("--per-task", type=int, default=100, help="questions of each of the six tasks")
    add_options(parser)
    options = parser.parse_args()
    found: dict[str, object] = {}
    with open_checkpoint("reference") as source, torch.no_grad():
        config = source.config
        examples = list(builtin_examples(patch_size=config.patch_size, max_patches=config.max_num_patches))
        samples = SampleBuilder(source, max_context=2048).build(examples)
        for label, what in _ROWS.items():
            with tempfile.TemporaryDirectory() as name:
                scales = calibrate_eight_bits(source, samples, what, Path(name))
                answerer = TorchAnswerer(source, what, scales.layers, Path(name))
                score = evaluate(answerer, per_task=options.per_task).as_dict()
            divergence = {kind: asdict(told) for kind, told in scales.divergence.items()}
            found[label] = score | {"divergence": divergence, "rules": _rules(scales.layers)}
            print(label, score["overall"], flush=True)
    publish("reference-eight-bits", {"suite": SUITE, "per_task": options.per_task}, found, keep=options.keep)


def _rules(layers: Sequence[LayerScales]) -> list[str]:
    """Which rule found each scale, layer by layer."""
    scales = [scale for layer in layers for scale in (*layer.inputs.values(), layer.key, layer.value)]
    return [scale.rule for scale in scales if scale is not None]


if __name__ == "__main__":
    main()
