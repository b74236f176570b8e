"""Hands out the examples of a split in batches, in the order of a training run (no TensorFlow)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt

from alexnet_tf1.data.dataset import Split
from alexnet_tf1.errors import UserError

# The float32 value of each of the 256 pixel values. The original scales in float64 and the feed
# rounds to float32; looking the result up gives the same bits from 8 times less memory.
SCALED = (np.arange(256) / 127.5 - 1).astype(np.float32)

ALL = slice(None)


class Augmentation(Protocol):
    """Changes the images of a batch; recipes/augment.py has the one that recipes use."""

    def apply(
        self, images: npt.NDArray[np.uint8], rows: npt.NDArray[np.int64], epoch: int, place: int
    ) -> npt.NDArray[np.uint8]:
        """Returns the changed images.

        Args:
          images: uint8 [N, 3072], a copy that may be changed in place.
          rows: int64 [N], where in the split they are.
          epoch: number of the epoch, from 1.
          place: how many examples of this epoch were taken with the batch.
        """


class Batches:
    """Hands out a split in random order, epoch by epoch, as the original's next_batch does.

    The order is permuted at the start of every epoch. Where fewer examples than a batch are left,
    they are dropped and the next epoch begins.
    """

    def __init__(
        self, split: Split, seed: int, augmentation: Augmentation | None = None, part: slice = ALL
    ) -> None:
        """Begins the first epoch; `part` is the rows of each batch that this process trains on."""
        self._split = split
        self._seed = seed
        self._augmentation = augmentation
        self._part = part
        self._begin_epoch(1)

    def skip(self, batches: int, batch_size: int) -> Batches:
        """Goes to where so many batches lead from the start, and returns itself.

        Draws the permutations again rather than storing them in a checkpoint: a millisecond each
        for 50,000 examples.
        """
        if batches:
            an_epoch = max(1, len(self._split.labels) // batch_size)  # batches
            epochs, taken = divmod(batches - 1, an_epoch)
            self._begin_epoch(epochs + 1)
            self._position = (taken + 1) * batch_size
        return self

    def next_pixels(self, batch_size: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """Takes the next batch, as pixels.

        Returns:
          Images, uint8 [batch_size, 3072], augmented; labels, int64 [batch_size]; or this
          process's part of them.

        Raises:
          UserError: if the split holds fewer than batch_size examples.
        """
        examples = len(self._order)
        if batch_size > examples:
            raise UserError(
                f"--batch-size {batch_size} is larger than the training set; use at most {examples}"
            )
        if self._position + batch_size > examples:
            self._permute()
        rows = self._order[self._position : self._position + batch_size]
        self._position += batch_size
        if self._augmentation is None:
            rows = rows[self._part]
            return self._split.images[rows], self._split.labels[rows]
        # The whole batch, so that what happens to an image does not depend on who trains on it.
        images = self._split.images[rows]
        images = self._augmentation.apply(images, rows, self._epoch, self._position)
        return images[self._part], self._split.labels[rows][self._part]

    def next_batch(self, batch_size: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Takes the next batch, as `next_pixels` does, with images as float32 scaled to -1..1."""
        images, labels = self.next_pixels(batch_size)
        return SCALED[images], labels

    def _begin_epoch(self, number: int) -> None:
        """Draws the permutations of all epochs up to this one."""
        self._random = np.random.RandomState(self._seed)
        self._order = np.arange(len(self._split.labels))
        self._epoch = 0
        for _ in range(number):
            self._permute()

    def _permute(self) -> None:
        # The original permutes its arrays in place, so each permutation acts on the last order.
        self._order = self._order[self._random.permutation(len(self._order))]
        self._epoch += 1
        self._position = 0


def in_order(
    split: Split, batch_size: int
) -> Iterator[tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]]:
    """Yields every example of a split exactly once, in its own order; the last batch the rest.

    Yields:
      Images, float32 [<= batch_size, 3072], scaled to -1..1; labels, int64 [<= batch_size].
    """
    for start in range(0, len(split.labels), batch_size):
        rows = slice(start, start + batch_size)
        yield SCALED[split.images[rows]], split.labels[rows]
