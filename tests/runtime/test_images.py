import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from phiedge.errors import ImageError
from phiedge.runtime.images import PictureSize, load_image, load_images, measure_images


@pytest.fixture
def rgb() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (7, 5, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_path_bytes_pil_and_array_give_the_same_pixels(tmp_path: Path, rgb: np.ndarray) -> None:
    image = Image.fromarray(rgb)
    path = tmp_path / "picture.png"
    image.save(path)
    for source in (path, str(path), path.read_bytes(), image, rgb):
        assert np.array_equal(load_image(source), rgb)


@pytest.mark.parametrize("height", [1, 3])
@pytest.mark.parametrize("width", [1, 2, 3, 40])
def test_flat_pictures_are_never_taken_for_channels_first(height: int, width: int) -> None:
    array = np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3)
    assert np.array_equal(load_image(array), array)
    assert np.array_equal(load_image(encoded(Image.fromarray(array), "PNG")), array)


def test_a_view_that_is_not_contiguous_becomes_contiguous(rgb: np.ndarray) -> None:
    loaded = load_image(rgb[::-1, :, ::-1])
    assert loaded.flags.c_contiguous
    assert np.array_equal(loaded, rgb[::-1, :, ::-1])


def test_a_channels_first_array_is_refused_with_the_way_out() -> None:
    with pytest.raises(ImageError, match=r"\[3, 20, 30\]") as caught:
        load_image(np.zeros((3, 20, 30), np.uint8))
    assert "transpose(1, 2, 0)" in str(caught.value.remedy)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), "float32"),
        (np.zeros((4, 4, 3), np.uint16), "uint16"),
        (np.zeros((4, 4), np.uint8), r"\[4, 4\]"),
        (np.zeros((4, 4, 4), np.uint8), r"\[4, 4, 4\]"),
        (np.zeros((0, 4, 3), np.uint8), "4x0 pixels"),
    ],
)
def test_arrays_that_are_not_pictures_are_refused(array: np.ndarray, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        load_image(array)


def test_a_grey_picture_becomes_rgb() -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert np.array_equal(load_image(Image.fromarray(grey)), np.repeat(grey[..., None], 3, axis=2))


def test_a_bilevel_picture_becomes_black_and_white() -> None:
    bits = Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1")
    assert load_image(bits).tolist() == [[[0, 0, 0], [255, 255, 255]]]


def test_transparency_shows_white() -> None:
    pixels = np.array([[[200, 0, 0, 255], [0, 0, 0, 0], [0, 0, 0, 128]]], np.uint8)
    loaded = load_image(encoded(Image.fromarray(pixels), "PNG"))
    assert loaded[0, 0].tolist() == [200, 0, 0]
    assert loaded[0, 1].tolist() == [255, 255, 255]
    assert loaded[0, 2].tolist() == [127, 127, 127]


def test_grey_with_alpha_shows_white() -> None:
    pixels = np.array([[[10, 255], [10, 0]]], np.uint8)
    assert load_image(Image.fromarray(pixels)).tolist() == [[[10] * 3, [255] * 3]]


def test_a_palette_is_resolved_and_its_transparent_entry_shows_white() -> None:
    image = Image.fromarray(np.array([[0, 1]], np.uint8), "L").convert("P")
    image.putpalette([1, 2, 3, 4, 5, 6])
    assert load_image(encoded(image, "PNG")).tolist() == [[[1, 2, 3], [4, 5, 6]]]
    assert load_image(encoded(image, "PNG", transparency=1)).tolist() == [[[1, 2, 3], [255, 255, 255]]]


def test_a_transparent_colour_of_an_rgb_picture_shows_white() -> None:
    image = Image.fromarray(np.array([[[9, 9, 9], [1, 2, 3]]], np.uint8))
    data = encoded(image, "PNG", transparency=(9, 9, 9))
    assert load_image(data).tolist() == [[[255, 255, 255], [1, 2, 3]]]


def test_cmyk_becomes_rgb() -> None:
    image = Image.new("CMYK", (2, 2), (0, 255, 255, 0))
    assert load_image(encoded(image, "TIFF")).tolist() == [[[255, 0, 0]] * 2] * 2


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    values = np.array([[0, 128, 257, 32896, 65407, 65535]], np.uint16)
    expected = [round(value / 257) for value in values[0].tolist()]
    for kind in ("PNG", "TIFF"):
        loaded = load_image(encoded(Image.fromarray(values), kind))
        assert loaded[0, :, 0].tolist() == expected
        assert np.array_equal(loaded[..., 0], loaded[..., 2])


def test_sixteen_bit_colour_is_scaled_not_clipped() -> None:
    values = np.array([[[0, 257 * 100, 65535]]], ">u2")
    loaded = load_image(png(width=1, height=1, bits=16, colour_type=2, rows=b"\0" + values.tobytes()))
    assert loaded.tolist() == [[[0, 100, 255]]]


def png(*, width: int, height: int, bits: int, colour_type: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("mode", ["I", "F"])
def test_thirty_two_bit_values_are_refused(mode: str) -> None:
    with pytest.raises(ImageError, match="32-bit"):
        load_image(Image.new(mode, (2, 2)))


def test_the_exif_orientation_is_applied(rgb: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it turned by 90 degrees clockwise
    data = encoded(Image.fromarray(rgb), "PNG", exif=exif)
    assert np.array_equal(load_image(data), np.rot90(rgb, k=-1))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_a_picture_that_moves_is_refused_with_its_number_of_frames(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match="3 frames"):
        load_image(data)


def test_a_photograph_with_further_views_is_its_first(rgb: np.ndarray) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("white", "black")]
    data = encoded(frames[0], "MPO", save_all=True, append_images=frames[1:])
    assert load_image(data).min() > 250


def test_a_bomb_is_refused_from_its_header_with_both_numbers() -> None:
    data = encoded(Image.new("1", (9000, 9000)), "PNG")
    with pytest.raises(ImageError, match=r"9000x9000 = 81,000,000 pixels; the limit is 67,108,864"):
        load_image(data)


def test_a_header_that_claims_billions_is_refused() -> None:
    data = png(width=100_000, height=100_000, bits=1, colour_type=0, rows=b"")
    with pytest.raises(ImageError, match="the limit is"):
        load_image(data)


def test_the_limit_holds_for_arrays_and_can_be_given(rgb: np.ndarray) -> None:
    with pytest.raises(ImageError, match="5x7 = 35 pixels; the limit is 34"):
        load_image(rgb, max_pixels=34)
    assert load_image(rgb, max_pixels=35).shape == (7, 5, 3)


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "is empty"), (b"this is no picture at all", "not a picture"), (b"\x89PNG\r\n\x1a\n", "picture")],
)
def test_bytes_that_are_no_picture_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        load_image(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"])
def test_a_truncated_file_is_refused(kind: str) -> None:
    noise = np.random.default_rng(2).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    with pytest.raises(ImageError):
        load_image(data[: len(data) // 2])


def test_damage_that_does_not_matter_is_not_spoken_of(rgb: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x010E] = "a description that is cut off"
    data = encoded(Image.fromarray(rgb), "PNG", exif=exif.tobytes()[:20])
    assert np.array_equal(load_image(data), rgb)


@given(
    place=st.integers(0, 199), value=st.integers(0, 255), kind=st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "BMP"])
)
def test_a_changed_byte_gives_a_picture_or_an_image_error(place: int, value: int, kind: str) -> None:
    pixels = np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3)
    data = bytearray(encoded(Image.fromarray(pixels), kind))
    data[place % len(data)] = value
    try:
        loaded = load_image(bytes(data))
    except ImageError:
        return
    assert (loaded.ndim, loaded.shape[2], loaded.dtype) == (3, 3, np.uint8)


def test_formats_that_run_other_programs_are_not_opened() -> None:
    with pytest.raises(ImageError, match="not a picture"):
        load_image(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n")


def test_a_missing_file_and_a_directory_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="there is no file"):
        load_image(tmp_path / "none.png")
    with pytest.raises(ImageError, match="is a directory"):
        load_image(tmp_path)


def test_a_pipe_and_a_device_are_refused_before_they_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(ImageError, match="is not a regular file"):
            load_image(path)


def test_a_file_larger_than_any_picture_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "film.mp4").open("wb") as film:
        film.truncate(10**12)
    with pytest.raises(ImageError, match="has 1000000000000 bytes, more than the 553648128 that"):
        load_image(tmp_path / "film.mp4")


def test_something_else_is_refused_by_its_type() -> None:
    with pytest.raises(ImageError, match="cannot be a int"):
        load_image(7)


@pytest.mark.parametrize("one", ["picture.png", b"bytes", np.zeros((4, 4, 3), np.uint8), Image.new("RGB", (1, 1))])
def test_one_picture_where_a_sequence_belongs_is_refused(one: object) -> None:
    with pytest.raises(ImageError, match="must be a sequence"):
        load_images(one)


def test_frames_of_one_array_and_generators_are_sequences() -> None:
    frames = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    assert [np.array_equal(a, b) for a, b in zip(load_images(frames), frames, strict=True)] == [True, True]
    assert len(load_images(frame for frame in frames)) == 2


def test_an_error_names_the_place_of_the_picture(rgb: np.ndarray) -> None:
    with pytest.raises(ImageError, match="picture 2: .* is empty"):
        load_images([rgb, b""])


def test_sizes_are_told_without_decoding(tmp_path: Path, rgb: np.ndarray) -> None:
    image = Image.fromarray(rgb)
    path = tmp_path / "picture.png"
    image.save(path)
    assert measure_images([path, path.read_bytes(), image, rgb]) == [
        PictureSize(width=5, height=7, encoded=encoded) for encoded in (True, True, False, False)
    ]
    half = path.read_bytes()[:60]  # its header is whole
    assert measure_images([half])[0].width == 5
    with pytest.raises(ImageError, match="picture 1"):
        load_images([half])


@pytest.mark.parametrize("source", [b"", b"no picture", "missing.png", 3, np.zeros((2, 2), dtype=np.uint8)])
def test_what_is_no_picture_has_no_size(source: object) -> None:
    with pytest.raises(ImageError, match="picture 2"):
        measure_images([np.zeros((2, 2, 3), dtype=np.uint8), source])
