"""Draws the embedded synthetic set: patterns and shapes (no TensorFlow, no download).

Ten kinds of figure, each in two random colours at a random place, size, brightness and contrast,
under noise. No single pixel, colour or mean tells the class; a convolution can. Everything is
integer arithmetic on NumPy's frozen RandomState streams, so a seed gives the same bytes on every
machine and every NumPy.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from alexnet_tf1.data.dataset import Dataset, Split

SIDE: Final = 32  # pixels
NOISE: Final = 20  # grey levels: the most that noise adds or takes away

Ints = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]


def generate(seed: int = 0, train_images: int = 5000, test_images: int = 2000) -> Dataset:
    """Draws the data set; takes about a second.

    Args:
      seed: 0 .. 2**32 - 1; equal seeds give equal sets, and the training set does not depend
        on how many test images are asked for.
      train_images: number of training images, at least 1; the classes differ by one at most.
      test_images: number of test images, likewise.

    Returns:
      The set named "synthetic", never verified; images uint8 [N, 3072], labels int64 [N] in
      random order.
    """
    random = np.random.RandomState(seed)
    train = _draw_split(random, train_images)
    return Dataset("synthetic", False, train, _draw_split(random, test_images), CLASS_NAMES)


def _draw_split(random: np.random.RandomState, count: int) -> Split:
    """Draws count images of all classes in random order."""
    labels = random.permutation(np.arange(count, dtype=np.int64) % len(CLASS_NAMES))
    images = np.empty((count, 3, SIDE, SIDE), np.uint8)
    figure = _figures(random, labels)[:, np.newaxis]  # [N, 1, 32, 32]
    ink, paper = (_integers(random, 0, 256, (count, 3, 1, 1)) for _ in range(2))
    # Rather pale and bright, and not equally so: then a layer's inputs have neither mean 0 nor
    # variance 1, and a batch normalisation whose moving averages stayed there shows it. (Images
    # grey on average hardly showed it; near white, even updated averages lagged for 600 steps.)
    contrast = _integers(random, 100, 200, (count, 1, 1, 1))  # in 256ths
    brightness = _integers(random, 140, 180, (count, 1, 1, 1))
    step = 500  # images at a time: 32-bit integers of all at once would take 90 MB
    for first in range(0, count, step):
        rows = slice(first, first + step)
        picture = np.where(figure[rows], ink[rows], paper[rows])
        picture = brightness[rows] + ((picture - 128) * contrast[rows] >> 8)
        picture += _integers(random, -NOISE, NOISE + 1, picture.shape)
        images[rows] = picture.clip(0, 255)
    return Split(images.reshape(count, -1), labels)


def _integers(random: np.random.RandomState, low: int, high: int, shape: tuple[int, ...]) -> Ints:
    """Draws uniform integers in [low, high), as int32: the default type is the machine's."""
    return random.randint(low, high, shape, np.int32)


def _figures(random: np.random.RandomState, labels: npt.NDArray[np.int64]) -> Mask:
    """Draws one figure an image: bool [N, 32, 32], True where it has ink."""
    count = len(labels)
    place = _integers(random, 0, 2**16, (count, 2, 1, 1))
    size = _integers(random, 0, 2**16, (count, 1, 1))
    figures = np.empty((count, SIDE, SIDE), np.bool_)
    side = np.arange(SIDE, dtype=np.int32)
    column = side[:, np.newaxis]
    for label, draw in enumerate(_FIGURES.values()):
        rows = np.flatnonzero(labels == label)
        x, y, n = place[rows, 0], place[rows, 1], size[rows]
        if label < 5:  # a pattern over the whole image, with stripes of 2 to 4 pixels
            figures[rows] = draw(side + x % SIDE, column + y % SIDE, 2 + n % 3, n)
        else:  # a shape: its centre is 11 to 20 pixels from the left and the top, radius 6 to 11
            figures[rows] = draw(side - (11 + x % 10), column - (11 + y % 10), 6 + n % 6, n)
    return figures


def _diagonal(x: Ints, y: Ints, width: Ints, size: Ints) -> Any:
    rising = np.where(size // 3 % 2, SIDE - y, y)
    return (x + rising) // (width + 1) % 2 == 0


def _dots(x: Ints, y: Ints, width: Ints, _: Ints) -> Any:
    period = 2 * width + 1
    return (x % period - width) ** 2 + (y % period - width) ** 2 <= width * width // 2


def _farthest(x: Ints, y: Ints) -> Any:
    return np.maximum(abs(x), abs(y))


# Each returns bool [N, 32, 32] for x [N, 1, 32], y [N, 32, 1], a width or radius r in pixels and
# the random integer it was made of, [N, 1, 1].
_FIGURES: Final[dict[str, Callable[[Ints, Ints, Ints, Ints], Any]]] = {
    "horizontal stripes": lambda x, y, r, _: (y // r + 0 * x) % 2 == 0,
    "vertical stripes": lambda x, y, r, _: (x // r + 0 * y) % 2 == 0,
    "diagonal stripes": _diagonal,
    "chequers": lambda x, y, r, _: (x // r + y // r) % 2 == 0,
    "dots": _dots,
    "disc": lambda x, y, r, _: x * x + y * y <= r**2,
    "ring": lambda x, y, r, _: (x * x + y * y <= r**2) & (x * x + y * y >= r**2 // 3),
    "square": lambda x, y, r, _: _farthest(x, y) <= r * 7 // 8,
    "triangle": lambda x, y, r, _: (2 * abs(x) <= y + r) & (y <= r),
    "cross": lambda x, y, r, _: (_farthest(x, y) <= r) & (np.minimum(abs(x), abs(y)) <= r // 3),
}
CLASS_NAMES: Final = tuple(_FIGURES)
