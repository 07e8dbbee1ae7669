import numpy as np
import torch

from phiedge.calibration.first_rows import write_first_rows
from phiedge.calibration.row_file import RowFile
from phiedge.calibration.samples import VISUAL, Kind, Picture, Sample
from phiedge.progress import silent


def test_tokens_and_pictures_become_the_publishers_rows(oracle_checkpoint, oracle_arrays, tmp_path) -> None:
    expected = oracle_arrays["img1/inputs_embeds"][0]
    ids = oracle_arrays["img1/input_ids"].reshape(-1)
    place = int(np.flatnonzero(ids == -200)[0])
    patches = oracle_arrays["img1/pixel_values"].reshape(-1, 768)
    positions = oracle_arrays["img1/pos_embed_0"]
    tokens = np.concatenate([ids[:place], np.full(len(patches), VISUAL), ids[place + 1 :]]).astype(np.int64)
    kinds = np.where(tokens == VISUAL, Kind.VISUAL, Kind.TEXT).astype(np.int8)

    def load() -> list[Picture]:
        return [Picture(patches=patches, positions=positions, first_row=place)]

    sample = Sample(name="img1", tokens=tokens, kinds=kinds, held_out=False, digest="", load=load)
    rows = RowFile(tmp_path / "rows", [sample.rows], oracle_checkpoint.config.hidden_size)
    write_first_rows(oracle_checkpoint, [sample], rows, silent)
    np.testing.assert_allclose(rows.read(0).numpy(), expected, rtol=0, atol=1e-4)
    assert rows.read(0).dtype == torch.float32
