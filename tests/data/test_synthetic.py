import hashlib

import numpy as np
import pytest

from alexnet_tf1.data import synthetic


@pytest.fixture(scope="module")
def data():
    return synthetic.generate()


def test_has_the_layout_of_cifar10(data):
    assert (data.name, data.verified) == ("synthetic", False)
    assert len(set(data.class_names)) == 10
    for split, count in [(data.train, 5000), (data.test, 2000)]:
        assert (split.images.dtype, split.images.shape) == (np.uint8, (count, 3072))
        assert (split.labels.dtype, split.labels.shape) == (np.int64, (count,))
        assert np.bincount(split.labels).tolist() == [count // 10] * 10
        assert split.images.flags.c_contiguous


def test_the_labels_come_in_random_order(data):
    # 100 consecutive labels hold every class, and no period of ten shows.
    assert set(data.train.labels[:100]) == set(range(10))
    assert (data.train.labels[10:] == data.train.labels[:-10]).mean() < 0.2


def test_a_seed_gives_the_same_bytes_everywhere():
    # Integer arithmetic on a frozen stream: a change here changes every figure that was quoted.
    data = synthetic.generate(0, 300, 100)
    digest = hashlib.sha256()
    for array in (*data.train, *data.test):
        digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
    assert digest.hexdigest()[:16] == "fdf1af65560817b4"


def test_another_seed_gives_other_images():
    first, second = synthetic.generate(0, 100, 100), synthetic.generate(1, 100, 100)
    assert not np.array_equal(first.train.images, second.train.images)
    assert not np.array_equal(first.train.labels, second.train.labels)
    assert not np.array_equal(first.train.images, first.test.images)


def test_the_training_set_does_not_depend_on_the_test_set():
    few, many = synthetic.generate(3, 50, 1), synthetic.generate(3, 50, 700)
    np.testing.assert_array_equal(few.train.images, many.train.images)
    assert len(many.test.labels) == 700


def test_counts_that_do_not_divide_by_ten():
    data = synthetic.generate(0, 1, 13)
    assert np.bincount(data.test.labels, minlength=10).tolist() == [2, 2, 2] + [1] * 7
    assert data.train.images.shape == (1, 3072)


def test_no_image_repeats_and_none_is_constant(data):
    images = np.concatenate([data.train.images, data.test.images])
    assert len({image.tobytes() for image in images}) == len(images)
    assert images.std(axis=1).min() > 2


def nearest_mean_accuracy(train, test):
    """Accuracy of the class whose mean feature vector is nearest."""
    means = np.stack([train[0][train[1] == label].mean(0) for label in range(10)])
    distances = ((test[0][:, None, :] - means[None]) ** 2).sum(2)
    return (distances.argmin(1) == test[1]).mean()


@pytest.mark.parametrize("feature", ["pixels", "colour means", "colour deviations"])
def test_the_class_does_not_show_in(data, feature):
    """What no look at neighbouring pixels is needed for gives little away."""

    def features(split):
        images = split.images.reshape(-1, 3, 1024).astype(np.float32)
        if feature == "pixels":
            return images.reshape(-1, 3072)[:, ::8], split.labels
        return images.mean(2) if feature == "colour means" else images.std(2), split.labels

    accuracy = nearest_mean_accuracy(features(data.train), features(data.test))
    assert accuracy < 0.2  # 0.10 to 0.13 measured; chance is 0.1


def test_the_class_does_show_in_neighbouring_pixels(data):
    """Twin of the above: which pixels resemble their neighbours tells patterns apart."""

    def features(split):
        images = split.images.reshape(-1, 3, 32, 32).astype(np.float32)
        images -= images.mean((2, 3), keepdims=True)
        images /= images.std((2, 3), keepdims=True)
        lags = [(0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (2, 2), (0, 3), (3, 0), (0, 4), (4, 0)]
        columns = [(images * np.roll(images, lag, (2, 3))).mean((1, 2, 3)) for lag in lags]
        return np.stack(columns, 1), split.labels

    assert nearest_mean_accuracy(features(data.train), features(data.test)) > 0.4  # 0.53 measured
