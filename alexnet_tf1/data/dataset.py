"""The types of a data set: a split, and a training and a test split under a name."""

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt


class Split(NamedTuple):
    """Images and their labels.

    Attributes:
      images: uint8 [N, 3072], channel-major: 1024 red, 1024 green, 1024 blue, rows first.
      labels: int64 [N], 0..9.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]


class Dataset(NamedTuple):
    """A training and a test split under the name that results are quoted with.

    Attributes:
      name: "cifar10" or "synthetic".
      verified: True when every file has its published MD5; False otherwise.
      train: the training split.
      test: the test split.
      class_names: ten names, indexed by label.
    """

    name: Literal["cifar10", "synthetic"]
    verified: bool
    train: Split
    test: Split
    class_names: tuple[str, ...]
