"""The order of the data against an independent reference, and its arithmetic."""

import numpy as np
import pytest

from alexnet_tf1.data.batches import Batches, in_order
from alexnet_tf1.data.dataset import Split
from alexnet_tf1.errors import UserError


@pytest.fixture
def split():
    random = np.random.RandomState(5)
    return Split(random.randint(0, 256, [23, 3072]).astype(np.uint8), np.arange(23))


def reference_batches(images, labels, batch_size, steps):
    """The original's class in a few lines: arrays permuted in place, float64 throughout."""
    np.random.seed(9)
    data, at, found = images / 127.5 - 1, len(labels), []
    for step in range(steps):
        if step == 0 or at + batch_size > len(labels):
            order = np.random.permutation(len(labels))
            data, labels, at = data[order], labels[order], 0
        found.append((data[at : at + batch_size], labels[at : at + batch_size]))
        at += batch_size
    return found


@pytest.mark.parametrize("batch_size", [1, 5, 7, 23])
def test_order_shuffle_and_wrap_are_the_original_s(split, batch_size):
    expected = reference_batches(split.images, split.labels, batch_size, 20)
    batches = Batches(split, seed=9)
    for images, labels in expected:
        own_images, own_labels = batches.next_batch(batch_size)
        assert own_images.dtype == np.float32
        np.testing.assert_array_equal(own_images, images.astype(np.float32))
        np.testing.assert_array_equal(own_labels, labels)


def test_what_does_not_fill_a_batch_is_dropped(split):
    batches = Batches(split, seed=0)
    first, second = (
        np.concatenate([batches.next_batch(5)[1] for _ in range(4)]) for _epoch in range(2)
    )
    assert len(set(first)) == len(set(second)) == 20
    assert (first != second).any()


def test_seeds_give_different_orders(split):
    assert (Batches(split, 0).next_batch(23)[1] != Batches(split, 1).next_batch(23)[1]).any()


def test_a_batch_larger_than_the_set_is_refused(split):
    with pytest.raises(UserError, match=r"--batch-size 24 .* use at most 23"):
        Batches(split, seed=0).next_batch(24)


def test_every_pixel_value_scales_as_float64_rounded_once():
    images = np.arange(256, dtype=np.uint8).repeat(12).reshape(1, 3072)
    scaled, _ = next(in_order(Split(images, np.zeros(1, np.int64)), 1))
    np.testing.assert_array_equal(scaled, (images / 127.5 - 1).astype(np.float32))


@pytest.mark.parametrize("batch_size", [1, 5, 23, 100])
def test_in_order_gives_every_example_once(split, batch_size):
    labels = np.concatenate([labels for _, labels in in_order(split, batch_size)])
    np.testing.assert_array_equal(labels, split.labels)
