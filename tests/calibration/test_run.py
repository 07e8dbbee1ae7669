import pytest
import torch

from phiedge.calibration.run import Run
from phiedge.errors import InputError


def test_the_key_tells_weights_samples_settings_and_type_apart(text_samples, tmp_path) -> None:
    run = Run(source=None, samples=text_samples(), directory=tmp_path)
    other_type = Run(source=None, samples=text_samples(), directory=tmp_path, compute=torch.bfloat16)
    other_samples = Run(source=None, samples=text_samples(17), directory=tmp_path)
    keys = [
        run.key("1", {"model": "a"}, {"bits": 4}),
        run.key("2", {"model": "a"}, {"bits": 4}),
        run.key("1", {"model": "b"}, {"bits": 4}),
        run.key("1", {"model": "a"}, {"bits": 8}),
        run.key("1", {"model": "a"}),
        other_type.key("1", {"model": "a"}, {"bits": 4}),
        other_samples.key("1", {"model": "a"}, {"bits": 4}),
    ]
    assert len(set(keys)) == len(keys)
    assert run.key("1", {"model": "a"}, {"bits": 4}) == keys[0]


def test_what_a_run_with_the_same_key_left_is_kept_and_what_another_left_is_not(text_samples, tmp_path) -> None:
    run = Run(source=None, samples=text_samples(), directory=tmp_path / "work")
    run.take_up("note", "key")
    left = tmp_path / "work/layer"
    left.write_text("codes")
    run.take_up("note", "key")
    assert left.read_text() == "codes"
    run.take_up("note", "another")
    assert sorted(path.name for path in left.parent.iterdir()) == ["note"]


def test_too_few_samples_are_refused_before_anything_is_read(text_samples, tmp_path) -> None:
    with pytest.raises(InputError, match="too few"):
        Run(source=None, samples=text_samples(2), directory=tmp_path / "work")
    assert not (tmp_path / "work").exists()
