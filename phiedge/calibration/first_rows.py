"""The rows that enter the first layer: embeddings of tokens, and pictures through vision encoder and projector."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from phiedge.calibration.decoder_layer import TensorReader, read_tensor
from phiedge.calibration.row_file import RowFile
from phiedge.calibration.samples import VISUAL, Sample
from phiedge.exporters.tensors import EMBEDDING_TABLE, vision_tensor
from phiedge.exporters.vision import VisionEncoder
from phiedge.progress import Progress


def write_first_rows(source: TensorReader, samples: Sequence[Sample], rows: RowFile, progress: Progress) -> None:
    """Fill `rows`; the vision encoder is in memory meanwhile, in float32."""
    pictured = any(bool((sample.tokens == VISUAL).any()) for sample in samples)
    encoder = _encoder(source) if pictured else None
    with torch.no_grad(), progress.task("look at the samples", len(samples), "samples") as advance:
        for index, sample in enumerate(samples):
            rows.write(index, _first_rows(source, encoder, sample))
            advance(1)


def _first_rows(source: TensorReader, encoder: VisionEncoder | None, sample: Sample) -> Tensor:
    rows = torch.empty(sample.rows, source.config.hidden_size)
    text = np.flatnonzero(sample.tokens != VISUAL)
    known: dict[int, Tensor] = {}
    for row in text:
        token = int(sample.tokens[row])
        if token not in known:
            known[token] = read_tensor(source, EMBEDDING_TABLE, slice(token, token + 1))[0]
        rows[row] = known[token]
    seen = 0
    if encoder is not None:
        for picture in sample.load():
            features = encoder(torch.from_numpy(picture.patches), torch.from_numpy(picture.positions))
            rows[picture.first_row : picture.first_row + len(features)] = features
            seen += len(features)
    assert seen + len(text) == sample.rows, (sample.name, seen, len(text), sample.rows)
    return rows


def _encoder(source: TensorReader) -> VisionEncoder:
    with torch.device("meta"):
        encoder = VisionEncoder(source.config)
    weights = {name: read_tensor(source, vision_tensor(name)) for name, _ in encoder.named_parameters()}
    encoder.load_state_dict(weights, assign=True)
    return encoder.eval()
