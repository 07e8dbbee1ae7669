"""Pictures of any kind as uint8 arrays [h, w, 3], RGB, upright.

What is decided here, once:
- Transparency is laid over white, as a viewer with a white page shows it; the colours hidden under it never show
  through.
- The EXIF orientation is applied. Colour profiles are not: the model was trained on decoded values as they stand.
- 16-bit grey is scaled to 8 bits (divided by 257 and rounded), never clipped.
- A picture that moves is refused: which of its frames is meant is the caller's to say. A list of frames is a list of
  pictures.
- Arrays are read as [height, width, 3] whatever their sizes, so that a picture three pixels high is not taken for one
  with its channels first. Blue-green-red order cannot be seen from the values; OpenCV's frames must be turned round by
  the caller.
"""

import io
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from phiedge.errors import ImageError

ImageSource: TypeAlias = "str | os.PathLike[str] | bytes | Image.Image | npt.NDArray[np.uint8]"
Pixels: TypeAlias = npt.NDArray[np.uint8]

MAX_PIXELS = 8192 * 8192
"""The most pixels that a picture may have, decoded (201 MB of RGB); a file of a few kilobytes can claim billions."""

T = TypeVar("T")

_MOST_BYTES_OF_A_PIXEL = 8  # four channels of 16 bits, not compressed
_METADATA_BYTES = 16 << 20  # colour profile, thumbnails and what else a camera adds

# Formats whose decoders are self-contained: no PostScript, no external programs, no containers of other documents.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
# An MPO is not among them: its further pictures are other views of the one photograph that it starts with.
_MOVING_FORMATS = ("PNG", "WEBP", "GIF", "TIFF")
_SIXTEEN_BIT_GREY = ("I;16", "I;16L", "I;16B", "I;16N")
_WITH_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")


def load_images(sources: Iterable[ImageSource], *, max_pixels: int = MAX_PIXELS) -> list[Pixels]:
    """Read every picture of a request, in order. Raises `ImageError` naming the place of the one that does not work."""
    return [
        naming_place(place, partial(load_image, source, max_pixels=max_pixels))
        for place, source in enumerate(listed(sources), start=1)
    ]


def listed(sources: Iterable[ImageSource]) -> list[ImageSource]:
    """The pictures of a request, none read yet. Raises `ImageError` for one that is not in a sequence."""
    if isinstance(sources, str | bytes | os.PathLike | Image.Image) or getattr(sources, "ndim", 4) == 3:
        raise ImageError(
            f"images must be a sequence of pictures, not one {type(sources).__name__}",
            remedy="put it into a list: images=[picture]",
        )
    return list(sources)


def read_files(sources: Sequence[ImageSource], *, max_pixels: int = MAX_PIXELS) -> list[ImageSource]:
    """The pictures of a request, with the contents of files in place of their paths. Raises `ImageError`."""

    def contents(source: ImageSource) -> ImageSource:
        return _read_file(Path(source), max_pixels) if isinstance(source, str | os.PathLike) else source

    return [naming_place(place, partial(contents, source)) for place, source in enumerate(sources, start=1)]


def naming_place(place: int, read: Callable[[], T]) -> T:
    """What `read` gives; an `ImageError` then names the place of the picture."""
    try:
        return read()
    except ImageError as error:
        raise ImageError(f"picture {place}: {error.message}", remedy=error.remedy) from error


def load_image(source: ImageSource, *, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Read a path, encoded bytes, a PIL image or an array as a contiguous uint8 array [h, w, 3], RGB.

    Raises `ImageError` for what is not a picture, and `OSError` only for a path that cannot be opened.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, max_pixels)
    if isinstance(source, Image.Image):
        return _from_pil(source, f"a PIL image of mode {source.mode}", max_pixels)
    if isinstance(source, bytes):
        return _from_encoded(source, f"{len(source)} bytes", max_pixels)
    if isinstance(source, str | os.PathLike):
        return _from_encoded(_read_file(Path(source), max_pixels), str(source), max_pixels)
    raise ImageError(
        f"a picture cannot be a {type(source).__name__}",
        remedy="give a path, encoded bytes, a PIL image or a uint8 array [h, w, 3]",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureSize:
    """Width and height in pixels as they are stored, which a rotation may exchange; `encoded` if they are in a file."""

    width: int
    height: int
    encoded: bool


def measure_images(sources: Sequence[ImageSource], *, max_pixels: int = MAX_PIXELS) -> list[PictureSize]:
    """The sizes of all pictures, without decoding one. Raises `ImageError` for what can be seen without it."""
    return [naming_place(place, partial(_measure, source, max_pixels)) for place, source in enumerate(sources, start=1)]


def _measure(source: ImageSource, max_pixels: int) -> PictureSize:
    if isinstance(source, bytes | str | os.PathLike):
        name = f"{len(source)} bytes" if isinstance(source, bytes) else str(source)
        if not isinstance(source, bytes):
            _check_file(Path(source), max_pixels)
        elif not source:
            raise _empty(name)
        opened = io.BytesIO(source) if isinstance(source, bytes) else Path(source)
        with _decoding(name, max_pixels), Image.open(opened, formats=FORMATS) as image:
            _check_size(image.width, image.height, name, max_pixels)
            return PictureSize(width=image.width, height=image.height, encoded=True)
    if isinstance(source, Image.Image):
        return PictureSize(width=source.width, height=source.height, encoded=False)
    pixels = load_image(source, max_pixels=max_pixels)  # an array is only looked at; anything else is refused there
    return PictureSize(width=pixels.shape[1], height=pixels.shape[0], encoded=False)


def _read_file(path: Path, max_pixels: int) -> bytes:
    _check_file(path, max_pixels)
    return path.read_bytes()


def _check_file(path: Path, max_pixels: int) -> None:
    if path.is_dir():
        raise ImageError(f"{path} is a directory", remedy="give the files in it one by one")
    if not path.exists():
        raise ImageError(f"there is no file {path}", remedy="check the name and the directory")
    if not path.is_file():  # a device that never ends, a pipe that nobody writes into
        raise ImageError(f"{path} is not a regular file", remedy="save the picture in a file and give that")
    size_bytes, limit_bytes = path.stat().st_size, _MOST_BYTES_OF_A_PIXEL * max_pixels + _METADATA_BYTES
    if size_bytes > limit_bytes:
        raise ImageError(
            f"{path} has {size_bytes} bytes, more than the {limit_bytes} that {max_pixels} pixels can take",
            remedy="give a still picture; of a film, the frames that matter",
        )


def _from_array(array: npt.NDArray[np.uint8], max_pixels: int) -> Pixels:
    shape = list(array.shape)
    if array.dtype != np.uint8:
        raise ImageError(f"an array of {array.dtype} is not a picture", remedy="scale it to uint8, 0 to 255")
    if array.ndim != 3 or array.shape[2] != 3:
        first = array.ndim == 3 and array.shape[0] == 3
        raise ImageError(
            f"an array of shape {shape} is not a picture [height, width, 3]",
            remedy="move the channels last: array.transpose(1, 2, 0)" if first else "convert it to RGB, channels last",
        )
    _check_size(array.shape[1], array.shape[0], f"an array of shape {shape}", max_pixels)
    return np.ascontiguousarray(array)


def _from_encoded(data: bytes, name: str, max_pixels: int) -> Pixels:
    if not data:
        raise _empty(name)
    with _decoding(name, max_pixels), Image.open(io.BytesIO(data), formats=FORMATS) as image:
        return _decoded(image, name, max_pixels)


def _empty(name: str) -> ImageError:
    return ImageError(f"{name}: the picture is empty", remedy="save or copy it again")


def _from_pil(image: Image.Image, name: str, max_pixels: int) -> Pixels:
    with _decoding(name, max_pixels):
        return _decoded(image, name, max_pixels)


def _decoded(image: Image.Image, name: str, max_pixels: int) -> Pixels:
    _check_size(image.width, image.height, name, max_pixels)
    frames = getattr(image, "n_frames", 1) if image.format in _MOVING_FORMATS else 1
    if frames > 1:
        raise ImageError(
            f"{name} has {frames} frames or pages; a picture has one",
            remedy="save the frames that matter as single pictures and give those, in order",
        )
    image.load()
    upright = ImageOps.exif_transpose(image)
    return np.ascontiguousarray(np.asarray(_to_rgb(upright, name)))


@contextmanager
def _decoding(name: str, max_pixels: int) -> Iterator[None]:
    """Turns whatever Pillow makes of hostile bytes into an `ImageError`.

    Its warnings are silenced: they tell of damage that does not keep the picture from being read, and of sizes between
    its limit and twice that, where ours is below it.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")
            yield
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{name} is not a picture that can be read", remedy=f"convert it to one of {', '.join(FORMATS)}"
        ) from error
    except Image.DecompressionBombError as error:
        number = re.search(r"\d+", str(error))  # Pillow's own limit, met before the size is known here
        what = f"it has {int(number[0]):,} pixels" if number else str(error)
        raise _too_large(name, what, max_pixels) from error
    except MemoryError as error:
        raise ImageError(f"{name} does not fit into memory") from error
    except Exception as error:  # a decoder meeting hostile bytes may raise nearly anything, at any step
        raise ImageError(f"{name} is a damaged picture: {error}", remedy="save or copy it again") from error


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in _SIXTEEN_BIT_GREY or (image.mode == "I" and image.format == "PNG"):
        return _grey_from_sixteen_bits(image)
    if image.mode in ("I", "F"):
        raise ImageError(
            f"{name} has 32-bit values (mode {image.mode}) of unknown range", remedy="scale it to 8 bits per channel"
        )
    if image.mode in _WITH_ALPHA or "transparency" in image.info:
        opaque = Image.new("RGBA", image.size, "white")
        opaque.alpha_composite(_to_rgba(image))
        return opaque.convert("RGB")
    return image.convert("RGB")


def _to_rgba(image: Image.Image) -> Image.Image:
    if image.mode == "La":  # Pillow unmultiplies only to the mode's own twin
        image = image.convert("LA")
    return image.convert("RGBA")


def _grey_from_sixteen_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.uint32)
    eight_bits = ((values + 128) // 257).astype(np.uint8)
    return Image.fromarray(eight_bits).convert("RGB")


def _check_size(width: int, height: int, name: str, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise ImageError(f"{name} is empty: {width}x{height} pixels")
    if width * height > max_pixels:
        raise _too_large(name, f"it has {width}x{height} = {width * height:,} pixels", max_pixels)


def _too_large(name: str, what: str, max_pixels: int) -> ImageError:
    return ImageError(
        f"{name} is too large: {what}; the limit is {max_pixels:,} pixels",
        remedy="scale it down first: the model sees at most about 0.92 megapixels of any picture",
    )
