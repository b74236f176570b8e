"""The form every data set takes here, and the choice between them (no TensorFlow)."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
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
    """A training and a test split under the name results are quoted with.

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


def load(
    name: Literal["auto", "cifar10", "synthetic"],
    data_dir: Path | None,
    *,
    seed: int = 0,
    announce: Callable[[str], None],
    progress: bool = False,
) -> Dataset:
    """The data set that was asked for; says so whenever it is not plainly that.

    Args:
      name: "auto" takes CIFAR-10 if it is there or can be downloaded, else the synthetic set.
        Files that are there and damaged are an error even so: they are the user's to mend.
      data_dir: where CIFAR-10 is or is to be, see `cifar10.find_or_fetch`.
      seed: of the synthetic set. It is not the run's: runs with different seeds see equal data.
      announce: is given every line meant for the user.
      progress: True shows a progress bar while downloading.

    Returns:
      The data set.

    Raises:
      UserError: if CIFAR-10 is damaged, or was asked for by name and cannot be had.
    """
    # Here and not above, because both build the types of this module.
    from alexnet_tf1.data import cifar10, synthetic
    from alexnet_tf1.data.download import DownloadError

    if name == "synthetic":
        return synthetic.generate(seed)
    try:
        folder = cifar10.find_or_fetch(data_dir, progress=progress, announce=announce)
    except DownloadError as error:
        if name == "cifar10":
            raise
        announce(f"*** No CIFAR-10: {error}.")
        announce("*** Using the embedded SYNTHETIC set: its accuracies are not CIFAR-10's. ***")
        return synthetic.generate(seed)
    with warnings.catch_warnings():
        # Said once, in a line of its own, where a warning would show a line of source as well.
        warnings.simplefilter("ignore", cifar10.UnverifiedDataWarning)
        data = cifar10.read(folder)
    if not data.verified:
        announce(f"warning: {cifar10.unverified(folder)}")
    return data
