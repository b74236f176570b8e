"""The order in which a training run sees its examples (no TensorFlow)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from alexnet_tf1.config import TrainConfig
from alexnet_tf1.data.dataset import Split
from alexnet_tf1.errors import UserError
from alexnet_tf1.recipes.augment import Augmentation

# The float32 value of each of the 256 pixel values. The original scales in float64 and the feed
# rounds to float32; looking the result up gives the same bits from 8 times less memory.
SCALED = (np.arange(256) / 127.5 - 1).astype(np.float32)


ALL = slice(None)


class OrderState(TypedDict):
    """Where a walk stands: enough, with its seed, to continue it.

    Attributes:
      shuffles: permutations drawn so far.
      position: examples taken since the last of them.
    """

    shuffles: int
    position: int


class Batches:
    """Walks a split in random order, as the original's next_batch does.

    The order is permuted once at the start; where fewer than a batch are left, those are
    dropped, the order is permuted again and the walk restarts.
    """

    def __init__(
        self,
        split: Split,
        seed: int,
        augmentation: Augmentation | None = None,
        part: slice = ALL,
    ) -> None:
        """Begins a walk.

        Args:
          split: what to walk.
          seed: of the order.
          augmentation: what happens to the images, if anything.
          part: the rows of each batch that this process trains on; the others are other workers'.
        """
        self._split = split
        self._seed = seed
        self._augmentation = augmentation
        self._part = part
        self.restore({"shuffles": 1, "position": 0})

    @property
    def state(self) -> OrderState:
        """The walk so far; `restore` continues from it."""
        return {"shuffles": self._shuffles, "position": self._position}

    def restore(self, state: OrderState) -> None:
        """Goes to where `state` was taken, in a walk of the same split and seed.

        Draws the permutations again rather than storing them: a millisecond each for 50,000
        examples, two integers in a checkpoint, and no pickled generator.
        """
        self._random = np.random.RandomState(self._seed)
        self._order = np.arange(len(self._split.labels))
        self._shuffles = 0
        for _ in range(state["shuffles"]):
            self._shuffle()
        self._position = state["position"]

    def skip(self, batches: int, batch_size: int) -> None:
        """Goes to where so many calls of next_rows lead from the start.

        Args:
          batches: how many.
          batch_size: examples a batch.
        """
        a_walk = max(1, len(self._split.labels) // batch_size)
        if batches:
            walks, taken = divmod(batches - 1, a_walk)
            self.restore({"shuffles": walks + 1, "position": (taken + 1) * batch_size})

    def next_rows(self, batch_size: int) -> npt.NDArray[np.int64]:
        """Takes the next batch, as row numbers of the split.

        Args:
          batch_size: examples a batch.

        Returns:
          int64 [batch_size], or this process's part of it.

        Raises:
          UserError: if the split holds fewer than batch_size examples.
        """
        return self._next(batch_size)[self._part]

    def next_pixels(self, batch_size: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """Takes the next batch, as pixels.

        Args:
          batch_size: examples a batch.

        Returns:
          Images, uint8 [batch_size, 3072], as augmented; labels, int64 [batch_size]; or this
          process's part of them.

        Raises:
          UserError: if the split holds fewer than batch_size examples.
        """
        rows = self._next(batch_size)
        if self._augmentation is None:
            rows = rows[self._part]
            return self._split.images[rows], self._split.labels[rows]
        # The whole batch, so that what happens to an image does not depend on who trains on it.
        images = self._split.images[rows]
        images = self._augmentation.apply(images, rows, self._shuffles, self._position)
        return images[self._part], self._split.labels[rows][self._part]

    def next_batch(self, batch_size: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Takes the next batch.

        Args:
          batch_size: examples a batch.

        Returns:
          Images, float32 [batch_size, 3072], scaled to -1..1; labels, int64 [batch_size]; or
          this process's part of them.

        Raises:
          UserError: if the split holds fewer than batch_size examples.
        """
        images, labels = self.next_pixels(batch_size)
        return SCALED[images], labels

    def _next(self, batch_size: int) -> npt.NDArray[np.int64]:
        examples = len(self._order)
        if batch_size > examples:
            raise UserError(
                f"--batch-size {batch_size} is larger than the training set; use at most {examples}"
            )
        if self._position + batch_size > examples:
            self._shuffle()
        rows = self._order[self._position : self._position + batch_size]
        self._position += batch_size
        return rows

    def _shuffle(self) -> None:
        # The original permutes its arrays in place, so each permutation acts on the last order.
        self._order = self._order[self._random.permutation(len(self._order))]
        self._shuffles += 1
        self._position = 0


def of(config: TrainConfig, split: Split, part: slice = ALL) -> Batches:
    """The walk through the training images that a run's settings ask for; see Batches."""
    change = None
    if config.flip or config.shift:
        change = Augmentation(config.seed, len(split.labels), flip=config.flip, shift=config.shift)
    return Batches(split, config.seed, change, part)


def in_order(
    split: Split, batch_size: int
) -> Iterator[tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]]:
    """Yields every example of a split exactly once, in its own order.

    Args:
      split: what to walk.
      batch_size: examples a batch; the last batch holds what is left.

    Yields:
      Images, float32 [<= batch_size, 3072], scaled to -1..1; labels, int64 [<= batch_size].
    """
    for start in range(0, len(split.labels), batch_size):
        rows = slice(start, start + batch_size)
        yield SCALED[split.images[rows]], split.labels[rows]
