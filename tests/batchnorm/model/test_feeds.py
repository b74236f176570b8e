"""What a model is fed, from files and from Python: read right, or refused in one line."""

from __future__ import annotations

import itertools
import os

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from alexnet_tf1.batchnorm.model.feeds import examples_of, read_examples, read_labels
from alexnet_tf1.errors import UserError

X = np.arange(30, dtype=np.float32).reshape(10, 3)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder with arrays, right and wrong, as the current one."""
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", X)
    np.savez("d.npz", x=X, y=np.arange(10) % 3, **{"x:0": X + 1})
    np.save("nine.npy", X[:9])
    np.save("objects.npy", np.array([1, None]), allow_pickle=True)
    np.savez("objects.npz", x=np.array([1, None]))
    np.save("one.npy", np.float32(1))
    np.save("none.npy", X[:0])
    np.save("struct.npy", np.zeros(3, [("a", "i4")]))
    np.save("hot.npy", np.eye(10, dtype=int))
    with open("text.npy", "w") as file:
        file.write("1, 2, 3")
    with open("lfs.npy", "w") as file:
        file.write("version https://git-lfs.github.com/spec/v1\n")
    for name, whole in (("cut.npy", "x.npy"), ("cut.npz", "d.npz")):
        with open(whole, "rb") as source, open(name, "wb") as file:
            file.write(source.read()[:-50])
    open("empty.npy", "w").close()
    os.mkdir("folder.npy")
    os.mkfifo("pipe.npy")
    os.mkdir("a=b.npz:c")
    np.savez("a=b.npz:c/d:e.npz", k=X)


def test_a_batch_holds_what_stays_as_it_is_beside_its_rows():
    examples = read_examples(
        ["x:0=x.npy", "y=d.npz:y"], ["keep=0.5", "n=3", "is_training=False"], examples=5
    )
    assert examples.count == 5
    batch = {name: value.tolist() for name, value in examples.batch(np.array([4, 0, 3])).items()}
    settings = {"keep": 0.5, "n": 3, "is_training": False}
    assert batch == {"x:0": X[[4, 0, 3]].tolist(), "y": [1, 0, 0], **settings}
    dtypes = {name: value.dtype.kind for name, value in examples.constants.items()}
    assert dtypes == {"keep": "f", "n": "i", "is_training": "b"}


def test_a_npy_file_stays_on_disk():
    with open("large.npy", "wb") as file:  # 8 TB of it are a hole
        header = {"descr": "<f4", "fortran_order": False, "shape": (2 * 10**9, 1000)}
        np.lib.format.write_array_header_2_0(file, header)
        file.truncate(file.tell() + 8 * 10**12)
    examples = read_examples(["x=large.npy"])
    batch = examples.batch(np.array([10**9, 5]))
    assert batch["x"].shape == (2, 1000)


@pytest.mark.parametrize("file", ["d.npz:x:0", "a=b.npz:c/d:e.npz:k"])
def test_files_and_keys_may_hold_the_signs_that_separate_them(file):
    expected = X + 1 if file.endswith("x:0") else X
    np.testing.assert_array_equal(read_examples([f"x={file}"]).arrays["x"], expected)


@pytest.mark.parametrize(
    ("feeds", "settings", "examples", "parts"),
    [
        (["x.npy"], [], None, ["--feed x.npy", "NAME=FILE"]),
        (["=x.npy"], [], None, ["--feed =x.npy", "NAME=FILE"]),
        (["x="], [], None, ["--feed x=", "NAME=FILE"]),
        ([], ["n=1"], None, ["nothing is fed per example", "--feed"]),
        (["x=no.npy"], [], None, ["--feed x=no.npy", "missing"]),
        (["x=x.npy:k"], [], None, ["x.npy:k is missing", "FILE.npz:KEY"]),
        (["x=folder.npy"], [], None, ["is no file"]),
        (["x=pipe.npy"], [], None, ["is no file"]),
        (["x=text.npy"], [], None, ["text.npy", "not in NumPy's format", "numpy.save"]),
        (["x=empty.npy"], [], None, ["empty.npy cannot be read"]),
        (["x=cut.npy"], [], None, ["cut.npy cannot be read"]),
        (["x=cut.npz:x"], [], None, ["cut.npz cannot be read"]),
        (["x=lfs.npy"], [], None, ["lfs.npy", "git lfs pull"]),
        (["x=objects.npy"], [], None, ["Python objects"]),
        (["x=objects.npz:x"], [], None, ["Python objects"]),
        (["x=struct.npy"], [], None, ["array of numbers"]),
        (["x=one.npy"], [], None, ["--feed x=one.npy", "--set NAME=VALUE"]),
        (["x=none.npy"], [], None, ["no examples", "[0, 3]"]),
        (["x=d.npz"], [], None, ["d.npz:KEY", "x, y, x:0"]),
        (["x=d.npz:z"], [], None, ["no array 'z'", "x, y, x:0"]),
        (["x=x.npy", "y=nine.npy"], [], None, ["--feed y has 9", "--feed x has 10"]),
        (["x=x.npy"], [], 11, ["--examples 11", "10"]),
        (["x=x.npy", "x=x.npy"], [], None, ["same tensor"]),
        (["x=x.npy"], ["x:0=1"], None, ["--set x:0=1", "--feed x=x.npy", "same tensor"]),
        (["x=x.npy"], ["k=1", "k=2"], None, ["--set k=2", "same tensor"]),
        (["x=x.npy"], ["k"], None, ["--set k", "NAME=VALUE"]),
        *((["x=x.npy"], [f"k={v}"], None, [f"--set k={v}", "true or false"])
          for v in ("abc", "nan", "inf", "[1,2]", "1,5", "None", " ")),
    ],
)  # fmt: skip
def test_what_cannot_be_fed_is_refused(feeds, settings, examples, parts):
    with pytest.raises(UserError) as raised:
        read_examples(feeds, settings, examples)
    for part in parts:
        assert part in str(raised.value)
    assert "\n" not in str(raised.value)


def test_labels_are_those_of_the_examples_used():
    labels = read_labels("d.npz:y", read_examples(["x=x.npy"], examples=4))
    assert labels.tolist() == [0, 1, 2, 0]
    np.save("pixels.npy", np.arange(20).reshape(10, 2) % 3)
    assert read_labels("pixels.npy", read_examples(["x=x.npy"], [], 2)).tolist() == [[0, 1], [2, 0]]


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ("no.npy", ["--labels no.npy", "missing"]),
        ("d.npz", ["--labels d.npz", "y"]),
        ("x.npy", ["float32", "astype(int)"]),
        ("hot.npy", ["[10, 10]", "numpy.argmax"]),
        ("short.npy", ["9 labels for 10 examples"]),
    ],
)
def test_what_is_no_label_is_refused(given, parts):
    np.save("short.npy", np.arange(9))
    with pytest.raises(UserError) as raised:
        read_labels(given, read_examples(["x=x.npy"], examples=4))
    for part in parts:
        assert part in str(raised.value)


def test_a_dict_of_arrays_is_taken_as_it_is():
    with tf.Graph().as_default():
        x, weights = tf.placeholder(tf.float32, [None, 3], "x"), tf.placeholder(tf.float32, [4])
        feeds = {x: X, "y": list(range(10)), weights: np.ones(4), "keep": 1.0}
    for examples, count in ((None, 10), (4, 4), (99, 10)):
        found = examples_of(feeds, examples)
        assert found.count == count
        assert found.arrays["x:0"] is X
        assert {*found.arrays} == {"x:0", "y"}
        assert {name: a.tolist() for name, a in found.constants.items()} == {
            weights.name: [1, 1, 1, 1],
            "keep": 1.0,
        }


def test_batches_are_joined_until_there_are_enough():
    batches = ({"x": X[n % 10 : n % 10 + 4], "keep": 0.5} for n in itertools.count())  # endless
    found = examples_of(batches, 6)
    assert found.count == 6
    assert found.arrays["x"][:6].tolist() == [*X[:4].tolist(), *X[1:3].tolist()]
    assert found.constants == {"keep": 0.5}
    assert examples_of([{"x": X}, {"x": X[:3]}]).count == 13


@pytest.mark.parametrize(
    ("feeds", "part"),
    [
        (3, "feeds is a int"),
        ([], "nothing"),
        ([X], "yields a ndarray"),
        ({}, "no examples"),
        ({"keep": 1.0}, "no examples"),
        ({"x": X[:0]}, "no examples"),
        ([{"x": X}, {"y": X}], "differ in what they feed"),
        ([{"x": X, "keep": 1}, {"x": X, "keep": 2}], "differ in what they feed"),
        ([{"x": X}, {"x": X[:, :2]}], "differ in shape"),
    ],
)
def test_feeds_that_do_not_fit_together_are_refused(feeds, part):
    with pytest.raises(UserError, match=part):
        examples_of(feeds)
