"""Augments training images: mirrors them and moves them (no TensorFlow)."""

import numpy as np
import numpy.typing as npt

from alexnet_tf1.config import TrainConfig

SIDE = 32  # pixels


class Augmentation:
    """Changes images before they are trained on; labels stay.

    The change of an image follows from the seed and from its place in the run, so that a resumed
    run needs no state for it.

    Half of the images begin mirrored, and each changes sides with every epoch: two epochs show
    both sides of every image, where coins would show one side twice of half of them (K. Jordan,
    "94% on CIFAR-10 in 3.29 seconds on a single GPU", 2024).
    """

    def __init__(self, seed: int, examples: int, *, flip: bool = False, shift: int = 0) -> None:
        """Draws which images begin mirrored.

        Args:
          seed: of the run.
          examples: images in the training set.
          flip: whether to mirror.
          shift: most pixels by which an image moves up or down, and left or right; what comes in
            at the edge is the image mirrored there.
        """
        self._seed = seed
        self._flip = flip
        self._shift = shift
        self._mirrored_first = np.random.default_rng([seed, 1]).random(examples) < 0.5

    def apply(
        self, images: npt.NDArray[np.uint8], rows: npt.NDArray[np.int64], epoch: int, place: int
    ) -> npt.NDArray[np.uint8]:
        """Changes a batch; arguments and result as for `data.batches.Augmentation`."""
        planes = images.reshape(-1, 3, SIDE, SIDE)
        if self._flip:
            mirrored = self._mirrored_first[rows] ^ (epoch % 2 == 0)
            planes[mirrored] = planes[mirrored, :, :, ::-1]
        if self._shift:
            random = np.random.default_rng([self._seed, 2, epoch, place])
            offsets = random.integers(0, 2 * self._shift + 1, (2, len(planes)))
            planes = _moved(planes, offsets, self._shift)
        return planes.reshape(-1, 3 * SIDE * SIDE)


def _moved(
    planes: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64], edge: int
) -> npt.NDArray[np.uint8]:
    """Cuts [N, 3, 32, 32] out of mirrored surroundings, at offsets [2, N] from their corner."""
    wider = np.pad(planes, [(0, 0), (0, 0), (edge, edge), (edge, edge)], mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(wider, (SIDE, SIDE), axis=(2, 3))
    return windows[np.arange(len(planes)), :, offsets[0], offsets[1]]


def augmentation_for(config: TrainConfig, examples: int) -> Augmentation | None:
    """Makes the augmentation that a run's settings ask for, if any, for so many images."""
    if not config.flip and not config.shift:
        return None
    return Augmentation(config.seed, examples, flip=config.flip, shift=config.shift)
