"""Kernels that convolutions may begin with in place of random ones (no TensorFlow).

Both kinds are from K. Jordan, "94% on CIFAR-10 in 3.29 seconds on a single GPU", 2024.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from alexnet_tf1.data.batches import SCALED
from alexnet_tf1.recipes.augment import SIDE

IMAGES = 5_000  # from which the statistics are taken
EPSILON = 5e-4  # added to a variance, so that noise of the compression is not blown up


def prepared(
    kernels: Sequence[npt.NDArray[np.float32]], images: npt.NDArray[np.uint8]
) -> list[npt.NDArray[np.float32]]:
    """Prepares the kernels of a network: the first whitens the images, the others pass on.

    Args:
      kernels: random ones, float32 [3, 3, C, D], in forward order.
      images: of the training set, uint8 [N, 3072].

    Returns:
      As many, of the same shapes.
    """
    first, *others = kernels
    return [whitening_kernel(images, first.shape[-1]), *map(passing_on, others)]


def passing_on(kernel: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Makes the first outputs the inputs themselves; where there are more outputs, they stay.

    float32 [3, 3, C, D] -> float32 [3, 3, C, D].
    """
    kernel = kernel.copy()
    passed = range(min(kernel.shape[2:]))
    kernel[..., passed] = 0
    kernel[1, 1, passed, passed] = 1
    return kernel


def whitening_kernel(images: npt.NDArray[np.uint8], filters: int) -> npt.NDArray[np.float32]:
    """Computes a 3 x 3 kernel whose outputs are uncorrelated and of one variance.

    They are the principal components of the images' 3 x 3 patches, the strongest first, each
    divided by its root mean square; then the same with the other sign, as ReLU keeps one sign
    only.

    Args:
      images: uint8 [N, 3072], channel-major; the first 5,000 count.
      filters: how many, even, at most 54.

    Returns:
      float32 [3, 3, 3, filters], for images scaled to -1..1.
    """
    planes = SCALED[images[:IMAGES]].reshape(-1, 3, SIDE, SIDE)
    patches: Any = np.lib.stride_tricks.sliding_window_view(planes, (3, 3), axis=(2, 3))
    # Every other patch: neighbours say nearly the same. In the kernel's order: y, x, channel.
    rows = patches[:, :, ::2, ::2].transpose(0, 2, 3, 4, 5, 1).reshape(-1, 27)
    values, vectors = np.linalg.eigh(rows.T @ rows / np.float64(len(rows)))
    components = vectors / np.sqrt(values + EPSILON)
    strongest = components[:, ::-1][:, : filters // 2]
    return np.concatenate([strongest, -strongest], 1).reshape(3, 3, 3, filters).astype(np.float32)
