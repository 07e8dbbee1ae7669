import pytest

from phiedge.bundle import Generation
from phiedge.errors import ConfigError
from phiedge.exporters.companions import TokenIds, check_preprocessor, read_generation

DECLARED = TokenIds(bos=1, eos=(2,), pad=3)
PREPROCESSOR: dict[str, object] = {
    "auto_map": {"AutoProcessor": "processing_phi4_visionr.Phi4VisionRProcessor"},
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_processor_type": "Siglip2ImageProcessorNoUpscale",
    "image_std": [0.5, 0.5, 0.5],
    "max_num_patches": 3600,
    "min_num_patches": 256,
    "patch_size": 16,
    "processor_class": "Phi4VisionRProcessor",
    "rescale_factor": 0.00392156862745098,
    "resample": 2,
}


def test_without_the_file_nothing_is_sampled_and_the_stops_are_the_configurations() -> None:
    generation, tokens = read_generation(None, DECLARED)
    assert generation == Generation(do_sample=False, temperature=1.0, top_p=1.0)
    assert tokens == DECLARED


def test_the_publishers_file_is_read() -> None:
    published: dict[str, object] = {
        "_from_model_config": True,
        "bos_token_id": 1,
        "do_sample": True,
        "eos_token_id": [2, 5],
        "pad_token_id": 3,
        "temperature": 0.8,
        "top_p": 0.95,
        "transformers_version": "4.56.1",
    }
    generation, tokens = read_generation(published, DECLARED)
    assert generation == Generation(do_sample=True, temperature=0.8, top_p=0.95)
    assert tokens.eos == (2, 5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"bos_token_id": 9}, "'bos_token_id' is 9, phiedge supports 1"),
        ({"pad_token_id": 9}, "'pad_token_id' is 9, phiedge supports 3"),
        ({"eos_token_id": [7]}, r"stops at \[7\], config.json also at \[2\]"),
        ({"top_p": 1.5}, "'top_p' is 1.5"),
        ({"temperature": 0}, "'temperature' is 0"),
        ({"do_sample": "yes"}, "'do_sample'"),
        ({"top_pp": 0.9}, "did you mean 'top_p'"),
    ],
)
def test_a_generation_file_that_contradicts_is_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_generation(change, DECLARED)


def test_the_publishers_preprocessor_agrees_with_its_configuration() -> None:
    check_preprocessor(PREPROCESSOR, patch_size=16, min_num_patches=256, max_num_patches=3600)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"patch_size": 14}, "'patch_size' is 14, phiedge supports 16"),
        ({"max_num_patches": 1024}, "'max_num_patches' is 1024, phiedge supports 3600"),
        ({"min_num_patches": 1}, "'min_num_patches' is 1, phiedge supports 256"),
        ({"do_normalize": False}, "'do_normalize' is false, phiedge supports true"),
        ({"image_mean": [0.48, 0.46, 0.41]}, "'image_mean'"),
        ({"resample": 3}, "'resample' is 3, phiedge supports 2"),
        ({"rescale_factor": 1.0}, "'rescale_factor'"),
        ({"crop_size": 224}, "'crop_size'"),
    ],
)
def test_a_preprocessor_of_another_model_is_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_preprocessor(PREPROCESSOR | change, patch_size=16, min_num_patches=256, max_num_patches=3600)
