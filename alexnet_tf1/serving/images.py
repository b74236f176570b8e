"""Reads picture files of any size as the network sees them: uint8 [32, 32, 3] (no TensorFlow).

The steps, in this order:
1. The first frame is decoded. Colours are taken as stored: a colour profile is not applied, CMYK
   is converted by Pillow's formula, and of 16-bit samples the upper 8 bits are kept.
2. The largest square in the middle is taken, to half a pixel, and resized to 32 x 32 by Pillow's
   bicubic filter (a = -0.5), which widens with the factor of shrinking, so that every pixel of
   the square counts; transparent ones by their opacity (PIL.ImageOps.fit). A square of 32 x 32
   stays as it is, bit for bit.
3. The picture is turned as its EXIF orientation says (PIL.ImageOps.exif_transpose).
4. What is transparent is laid on white; grey becomes three equal channels.

A stranger may have made the file, so its cost is bounded before a pixel is decoded.
"""

import contextlib
import io
import warnings
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from alexnet_tf1 import files
from alexnet_tf1.errors import UserError

SIDE: Final = 32  # pixels
FORMATS: Final = ("PNG", "JPEG", "BMP", "GIF")  # nothing else of what Pillow can read is opened

# A photo of a 50-megapixel telephone has up to 30 MB as PNG or JPEG.
MAX_FILE_BYTES: Final = 64 << 20
# Those telephones' 8160 x 6120. Pillow takes 4 bytes a pixel, a conversion as much again, and a
# progressive JPEG 2 a channel for its coefficients: 0.6 GB measured at the worst.
MAX_PIXELS: Final = 50_000_000
# What JPEG and GIF can say. Pillow takes 8 bytes a row beside its pixels, and some decoders time
# or memory in proportion to a side alone.
MAX_SIDE: Final = 65_535
# A progressive JPEG sends its picture in about 10 scans; each costs a walk over all of it, and
# 100 bytes of file are enough for one of 50 megapixels. Twice 10 for a second picture or a
# preview in the same file, and room.
MAX_JPEG_SCANS: Final = 50
JPEG_SCAN: Final = b"\xff\xda"  # in a scan's own bytes, 0xff is followed by 0
# Pillow gathers what precedes the pixels in Python, and some of it by appending block to block,
# whose time grows with the square of their number. No camera or program comes near these.
MAX_HEADER_READS: Final = 4_000
MAX_HEADER_BYTES: Final = 16 << 20
MAX_READS: Final = 100_000  # in all: a PNG of the largest file comes in some 30,000
MAX_PROFILES: Final = 8  # of a PNG, b"iCCP": 1 KB each that Pillow unpacks to 1 MB, one after one

BACKGROUND: Final = (255, 255, 255, 255)  # white, the page that cut-out pictures are made for
_REMEDY: Final = "give a PNG, JPEG, BMP or GIF file of at most 64 MiB"
_SAVE_AGAIN: Final = "save it again as an 8-bit RGB PNG or JPEG"


class _MeteredFile(io.BytesIO):
    """A file in memory that can be read so many times, and so many bytes of it, and no more."""

    def __init__(self, path: str, data: bytes) -> None:
        super().__init__(data)
        self._path = path
        self.may_read(MAX_HEADER_READS, MAX_HEADER_BYTES)

    def may_read(self, times: int, most: int) -> None:
        """Sets how many times it may be read from here on, and how many bytes of it."""
        self._times_left, self._bytes_left = times, most

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(size)
        self._times_left -= 1
        self._bytes_left -= len(found)
        if min(self._times_left, self._bytes_left) < 0:
            raise UserError(
                f"{self._path} holds far more beside its pixels than a picture needs; {_SAVE_AGAIN}"
            )
        return found


def read(path: str) -> npt.NDArray[np.uint8]:
    """Reads a picture and makes it 32 x 32, by the steps at the top of this file.

    Args:
      path: of a PNG, JPEG, BMP or GIF file; of several frames the first is taken.

    Returns:
      uint8 [32, 32, 3]: rows, columns; red, green, blue.

    Raises:
      UserError: if the file is missing, too large, damaged or of another kind.
    """
    data = files.read_bytes(path, MAX_FILE_BYTES, _REMEDY)
    if not data:
        raise UserError(f"{path} is empty; {_REMEDY}")
    with warnings.catch_warnings():
        # Pillow warns of odd metadata and of sizes; the sizes are judged here.
        warnings.simplefilter("ignore")
        try:
            file = _MeteredFile(path, data)
            with Image.open(file, formats=FORMATS) as image:
                _check_cost(path, image, data)
                file.may_read(MAX_READS, MAX_READS * len(data))
                image.load()
                return np.array(_resized(path, image))
        except UserError:
            raise
        except UnidentifiedImageError:
            raise UserError(f"{path} is no picture in a known format; {_REMEDY}") from None
        except Image.DecompressionBombError:
            raise _too_large(path, f"has more than {MAX_PIXELS:,} pixels") from None
        except Exception as error:  # what Pillow's decoders raise is documented nowhere
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise UserError(
                f"{path} is damaged ({reason}); give a whole PNG, JPEG, BMP or GIF file"
            ) from None


def _too_large(path: str, what: str) -> UserError:
    return UserError(f"{path} {what}; save it smaller, 32 x 32 is all that is looked at")


def _check_cost(path: str, image: Image.Image, data: bytes) -> None:
    """Refuses what would take much time or memory to decode; only the header has been read."""
    width, height = image.size
    if not 0 < width * height <= MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise _too_large(
            path,
            f"is {width:,} x {height:,} pixels, more than {MAX_PIXELS:,} in all or "
            f"{MAX_SIDE:,} on a side",
        )
    if image.format == "BMP" and image.info.get("compression") in (1, 2):
        # Pillow decodes it in Python, and fills in what is missing.
        raise UserError(f"{path} is a run-length coded BMP, which is not read; {_SAVE_AGAIN}")
    if data.startswith(b"\x89PNG") and data.count(b"iCCP") > MAX_PROFILES:
        raise UserError(f"{path} holds more than {MAX_PROFILES} colour profiles; {_SAVE_AGAIN}")
    if data.startswith(b"\xff\xd8") and data.count(JPEG_SCAN) > MAX_JPEG_SCANS:
        raise UserError(
            f"{path} is a JPEG of more than {MAX_JPEG_SCANS} scans, as no camera makes; "
            f"{_SAVE_AGAIN}"
        )


def _resized(path: str, image: Image.Image) -> Image.Image:
    """Crops, resizes and turns a picture: RGB [32, 32].

    It is turned and laid on white after resizing, as both copy the whole picture.
    """
    # Of an RGBA image Pillow weights the colours by their opacity.
    small = ImageOps.fit(_averageable(path, image), (SIDE, SIDE), Image.Resampling.BICUBIC)
    with contextlib.suppress(Exception):  # damaged EXIF of a sound picture: it stays as stored
        small = ImageOps.exif_transpose(small)
    if small.mode == "RGBA":
        small = Image.alpha_composite(Image.new("RGBA", small.size, BACKGROUND), small)
    return small.convert("RGB")


def _averageable(path: str, image: Image.Image) -> Image.Image:
    """Converts to a mode whose values may be averaged: L, RGB or RGBA, 8 bits a channel."""
    is_transparent = image.has_transparency_data
    if image.mode.startswith("I") and not is_transparent:  # 16-bit grey, kept in 16 or 32
        grey = Image.fromarray(np.right_shift(np.asarray(image), 8).astype(np.uint8))
        grey.info = image.info  # EXIF among it
        return grey
    if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK"):
        raise UserError(
            f"{path} has pixels of a kind ({image.mode}) that is not read; {_SAVE_AGAIN}"
        )
    mode = "RGBA" if is_transparent else "L" if image.mode in ("1", "L") else "RGB"
    return image if mode == image.mode else image.convert(mode)
