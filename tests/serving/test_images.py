"""Picture files: what is made of them, and that no file hangs, floods or fools the reader."""

import io
import os
import struct
import subprocess
import sys
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from alexnet_tf1.errors import UserError
from alexnet_tf1.serving import images as pictures

NOISE = np.random.RandomState(0).randint(0, 256, [40, 32, 3]).astype(np.uint8)
SQUARE = NOISE[4:36]  # rows 4 to 35 are the middle of 40
RED, WHITE, BLUE = (255, 0, 0), (255, 255, 255), (0, 0, 255)


def smooth(height, width):
    """A picture without fine detail, uint8 [height, width, 3], different at all four sides."""
    y, x = np.mgrid[:height, :width] / [[[max(height, width)]], [[max(height, width)]]]
    return (255 * np.stack([x, y, (x + y) / 2], -1)).astype(np.uint8)


@pytest.fixture
def save(tmp_path):
    """Writes bytes, or an image with the options of its format, to a file of a name."""

    def write(content, name="a.png", **options):
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            image = content if isinstance(content, Image.Image) else Image.fromarray(content)
            image.save(path, **options)
        return str(path)

    return write


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, data=b"", *chunks, colour=2, depth=8):
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [chunk(b"IHDR", header), *chunks, chunk(b"IDAT", zlib.compress(data))]
    return b"\x89PNG\r\n\x1a\n" + b"".join([*parts, chunk(b"IEND", b"")])


def bmp(width, height, compression, data):
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, compression, 0, 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + 40 + 1024) + header + bytes(1024) + data


def error(path):
    with pytest.raises(UserError) as raised:
        pictures.read(path)
    text = str(raised.value)
    assert "\n" not in text
    assert text.startswith(f"{path} "), "it names the file"
    return text


@pytest.mark.parametrize("kind", ["png", "bmp"])
def test_an_image_of_the_right_size_passes_bit_for_bit(save, kind):
    found = pictures.read(save(SQUARE, f"a.{kind}"))
    assert found.dtype == np.uint8
    assert (found == SQUARE).all()


def test_the_middle_square_is_taken(save):
    assert (pictures.read(save(NOISE)) == SQUARE).all()
    across = NOISE.transpose(1, 0, 2)
    assert (pictures.read(save(across)) == SQUARE.transpose(1, 0, 2)).all()
    steps = np.arange(35, dtype=np.uint8)[:, None, None] * np.full([1, 32, 3], 2, np.uint8)
    odd = pictures.read(save(steps))  # of a margin of 3 rows, 1.5 go above
    assert (odd[1:-1] == steps[2:32] + 1).all()


def test_every_pixel_of_the_square_counts(save):
    """The mean stays, as it does not where a reader picks every eighth pixel."""
    stripes = np.zeros([256, 256, 3], np.uint8)
    stripes[::8] = 240
    found = pictures.read(save(stripes))
    assert abs(found.mean() - 30) < 1
    assert stripes[::8, ::8].mean() == 240, "the stripes would show what picking does"


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (500, 333)])
def test_any_size_becomes_32_by_32(save, size):
    found = pictures.read(save(np.full([*size, 3], RED, np.uint8)))
    assert found.shape == (32, 32, 3)
    assert (found == RED).all()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF"])
def test_every_format_gives_about_the_same_picture(save, kind):
    picture = smooth(100, 100)
    # The name says nothing: what is in the file counts.
    found = pictures.read(save(encoded(Image.fromarray(picture), kind), "picture"))
    expected = pictures.read(save(picture))
    assert abs(found.astype(int) - expected).mean() < (8 if kind == "GIF" else 2)
    assert abs(found[::-1].astype(int) - expected).mean() > 20, "upside down would be seen"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("kind", "mode"),
    [("JPEG", "RGB"), ("JPEG", "CMYK"), ("PNG", "RGB"), ("PNG", "RGBA"), ("PNG", "I;16")],
)
def test_the_orientation_is_applied(save, orientation, kind, mode):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(smooth(32, 32))
    if mode == "I;16":
        stored = Image.fromarray(np.arange(1024, dtype=np.uint16).reshape(32, 32) << 6)
    elif mode != "RGB":
        stored = stored.convert(mode)
    found = pictures.read(save(encoded(stored, kind, exif=exif)))
    plain = pictures.read(save(encoded(stored, kind)))
    upright = Image.fromarray(plain)
    upright.getexif()[0x0112] = orientation
    assert (found == np.asarray(ImageOps.exif_transpose(upright))).all()
    assert (found == plain).all() == (orientation == 1)


def test_damaged_exif_leaves_the_picture_as_stored(save):
    image = Image.fromarray(SQUARE)
    assert (pictures.read(save(encoded(image, "PNG", exif=b"Exif\0\0rubbish"))) == SQUARE).all()


def test_what_is_transparent_is_white(save):
    image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    image.paste((*RED, 255), (32, 0, 64, 64))
    found = pictures.read(save(image))
    assert (found[:, :15] == WHITE).all()
    assert (found[:, 17:] == RED).all()
    assert (found[..., 0] == 255).all(), "no black of the transparent pixels at the edge"
    half = pictures.read(save(Image.new("RGBA", (32, 32), (0, 0, 0, 128))))
    assert (half == 127).all()


def test_a_transparent_colour_is_white(save):
    indexed = Image.new("P", (32, 32), 1)
    indexed.putpalette([*RED, *BLUE])
    indexed.paste(0, (0, 0, 16, 32))
    for name in ("a.png", "a.gif"):
        found = pictures.read(save(indexed, name, transparency=0))
        assert (found[:, :16] == WHITE).all()
        assert (found[:, 16:] == BLUE).all()
        found = pictures.read(save(indexed, name))
        assert (found[:, :16] == RED).all()


def test_grey_of_every_depth(save):
    ramp = np.arange(1024, dtype=np.uint8).reshape(32, 32)
    assert (pictures.read(save(ramp)) == ramp[..., None]).all()
    deep = (ramp.astype(np.uint16) << 8) + 255  # the lower 8 bits are dropped, not clipped
    assert (pictures.read(save(deep)) == ramp[..., None]).all()
    black_and_white = pictures.read(save(Image.fromarray(ramp > 100)))
    assert (black_and_white == 255 * (ramp > 100)[..., None]).all()
    with_alpha = Image.merge("LA", [Image.fromarray(ramp), Image.new("L", (32, 32), 255)])
    assert (pictures.read(save(with_alpha)) == ramp[..., None]).all()


def test_colours_of_16_bits(save):
    deep = SQUARE * np.uint16(256) + np.uint16(255)
    data = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    assert (pictures.read(save(png(32, 32, data, depth=16))) == SQUARE).all()


def test_a_deep_grey_with_a_transparent_one_is_refused(save):
    transparent = chunk(b"tRNS", b"\0\0")
    assert "save it again" in error(
        save(png(32, 32, bytes(32 * 65), transparent, colour=0, depth=16))
    )


def test_print_colours(save):
    found = pictures.read(save(Image.new("CMYK", (40, 40), (0, 255, 255, 0)), "a.jpg"))
    assert abs(found.astype(int) - RED).max() < 8


def test_the_first_frame_is_taken(save):
    frames = [Image.new("RGB", (32, 32), colour) for colour in (RED, BLUE)]
    for name in ("a.gif", "a.png"):
        found = pictures.read(save(frames[0], name, save_all=True, append_images=frames[1:]))
        assert (found == RED).all()
        found = pictures.read(save(frames[1], name, save_all=True, append_images=frames[:1]))
        assert (found == BLUE).all()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is empty"),
        (b"a text\n" * 100, "no picture in a known format"),
        (np.random.RandomState(1).bytes(5000), "no picture in a known format"),
        (encoded(Image.new("RGB", (32, 32)), "TIFF"), "no picture in a known format"),
        (encoded(Image.new("RGB", (32, 32)), "PPM"), "no picture in a known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no picture in a known format"),
        (png(100_000, 100_000), "more than 50,000,000 pixels"),
        (png(10_000, 6_000), "10,000 x 6,000 pixels"),
        (png(1, 70_000), "65,535 on a side"),
        (b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0 \0 \0\0\x08\x01\0\0;", "more than 50,000,000"),
        (bmp(60_000, 800, 1, b"\0\2\0\xff" * 9), "run-length"),
        (bmp(32, 32, 0, bytes(500)), "is damaged"),
        (png(32, 32, bytes(500)), "is damaged"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_files_are_named(save, content, expected):
    text = error(save(content))
    assert expected in text
    assert "; " in text, "it says what to do"


def test_bad_paths_are_named(tmp_path):
    assert "is a folder" in error(str(tmp_path))
    assert "is missing" in error(str(tmp_path / "none.png"))
    assert "cannot be read" in error(str(tmp_path / ("a" * 5000)))
    assert "cannot be read" in error("a\0b")
    os.mkfifo(tmp_path / "pipe.png")
    assert "Not a regular file" in error(str(tmp_path / "pipe.png"))


def test_a_large_file_is_refused_unread(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    with open(path, "wb") as file:
        file.truncate(1 << 40)  # a terabyte of nothing
    assert "more than the 67,108,864 bytes" in error(str(path))
    content = png(32, 32, bytes(32 * 97))
    path.write_bytes(content)
    monkeypatch.setattr(pictures, "MAX_FILE_BYTES", len(content))
    assert (pictures.read(str(path)) == 0).all()
    monkeypatch.setattr(pictures, "MAX_FILE_BYTES", len(content) - 1)
    assert "more than" in error(str(path))


@pytest.mark.parametrize(
    ("kind", "options"),
    [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("GIF", {}), ("BMP", {})],
)
def test_a_truncated_file_is_an_error_and_not_grey(save, kind, options):
    whole = encoded(Image.fromarray(np.tile(NOISE, [3, 3, 1])), kind, **options)
    assert pictures.read(save(whole)).std() > 5
    for kept in np.linspace(0.02, 0.98, 25):
        path = save(whole[: int(kept * len(whole))])
        assert any(word in error(path) for word in ("is damaged", "no picture"))


GIF = encoded(Image.new("P", (32, 32)), "GIF")
JPEG = encoded(Image.new("RGB", (32, 32)), "JPEG")
FRAME = GIF.index(b",")
SCANS = encoded(Image.new("RGB", (64, 64)), "JPEG", progressive=True)
LAST_SCAN = SCANS[SCANS.rindex(b"\xff\xda") : -2]
MEBIBYTE = zlib.compress(bytes(1 << 20), 9)


@pytest.mark.parametrize(
    ("few", "many"),
    [
        (lambda n: GIF[:FRAME] + b"!\xfe" + b"\1a" * n + b"\0" + GIF[FRAME:], 1_000_000),
        (lambda n: GIF[:FRAME] + b"!\xfe\1a\0" * n + GIF[FRAME:], 1_000_000),
        (lambda n: JPEG[:2] + b"\xff" * n + JPEG[2:], 5_000_000),
        (lambda n: JPEG[:2] + b"\xff\xe3\0\2" * n + JPEG[2:], 1_000_000),
        (lambda n: JPEG[:2] + (b"\xff\xe1\xff\xff" + bytes(65_533)) * n + JPEG[2:], 300),
        (lambda n: SCANS[:-2] + LAST_SCAN * n + SCANS[-2:], 5_000),
        (
            lambda n: png(32, 32, bytes(3104))[:-12] + chunk(b"iCCP", b"a\0\0" + MEBIBYTE) * n,
            1_000,
        ),
    ],
    ids=["comment", "comments", "padding", "segments", "exif", "scans", "profiles"],
)
def test_a_file_that_would_take_long_is_refused(save, few, many):
    assert pictures.read(save(few(3))).shape == (32, 32, 3)
    text = error(save(few(many)))
    assert any(word in text for word in ("far more", "scans", "profiles"))


def test_later_frames_cost_nothing(save, monkeypatch):
    monkeypatch.setattr(pictures, "MAX_HEADER_READS", 40)
    monkeypatch.setattr(pictures, "MAX_READS", 40)
    assert (pictures.read(save(GIF[:-1] + GIF[FRAME:-1] * 100_000 + b";")) == 0).all()


def test_data_after_the_pixels_is_not_unpacked(save):
    unpacks_to_100_mb = zlib.compress(bytes(100_000_000), 9)
    content = png(32, 32).replace(
        chunk(b"IDAT", zlib.compress(b"")), chunk(b"IDAT", unpacks_to_100_mb)
    )
    assert (pictures.read(save(content)) == 0).all()


def test_pillow_warns_nobody(save):
    """Of 100 megapixels Pillow warns, where 200 are an error to it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert "10,000 x 10,000" in error(save(png(10_000, 10_000)))
    assert not caught
    with pytest.warns(Image.DecompressionBombWarning), Image.open(save(png(10_000, 10_000))):
        pass


MEASURE = """
import sys
from alexnet_tf1.serving import images as pictures

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) >> 10 for line in status if line.startswith("VmHWM"))

pictures.read(sys.argv[1])
before = peak()
try:
    pictures.read(sys.argv[2])
except pictures.UserError:
    pass
assert "tensorflow" not in sys.modules
print(peak() - before)
"""


def megabytes(*paths):
    run = [sys.executable, "-c", MEASURE, *paths]
    return int(subprocess.run(run, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="peak memory is Linux's to say")
def test_memory_is_bounded(save):
    small = save(SQUARE, "small.png")
    bomb = png(7_000, 7_200, bytes(1000))  # 50.4 megapixels: 200 MB, had it been decoded
    assert megabytes(small, save(bomb, "bomb.png")) < 20
    allowed = save(png(2_000, 2_000, bytes(2_000 * 6_001)), "allowed.png")
    assert 15 <= megabytes(small, allowed) < 30, "4 bytes a pixel, once"
