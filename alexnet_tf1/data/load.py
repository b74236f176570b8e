"""Loads CIFAR-10, or the synthetic set in its place (no TensorFlow)."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from alexnet_tf1.data import cifar10, synthetic
from alexnet_tf1.data.dataset import Dataset
from alexnet_tf1.data.download import DownloadError


def load_dataset(
    name: Literal["auto", "cifar10", "synthetic"],
    data_dir: Path | None,
    *,
    announce: Callable[[str], None],
    progress: bool = False,
) -> Dataset:
    """Loads a data set, and announces whatever the user might not expect of it.

    Args:
      name: "auto" takes CIFAR-10 if it is there or can be downloaded, else the synthetic set.
        Files that are damaged, and a folder that was named and holds none, are an error even so:
        the user has to mend them. The synthetic set does not depend on the run's seed.
      data_dir: where CIFAR-10 is, see `cifar10.find_or_fetch`.
      announce: is given every line meant for the user.
      progress: True shows a progress bar while downloading.

    Raises:
      UserError: if CIFAR-10 is damaged or not where it was said to be, or was asked for by name
        and cannot be had.
    """
    if name == "synthetic":
        return synthetic.generate()
    try:
        folder = cifar10.find_or_fetch(data_dir, progress=progress, announce=announce)
    except DownloadError as error:
        if name == "cifar10":
            raise
        announce(f"*** No CIFAR-10: {error}.")
        announce("*** Using the embedded SYNTHETIC set: its accuracies are not CIFAR-10's. ***")
        return synthetic.generate()
    data = cifar10.read(folder)
    if not data.verified:
        announce(
            f"warning: {folder}: these files are not the official CIFAR-10; results are marked not "
            "verified"
        )
    return data
