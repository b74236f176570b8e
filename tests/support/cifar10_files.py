"""Writes CIFAR-10 files as Python 2 wrote the published ones, opcode by opcode."""

import pickle
from pathlib import Path

import numpy as np

FILES = ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"]
FILES += ["test_batch"]


def text(value):
    return b"U" + bytes([len(value)]) + value.encode("latin-1")


def integer(value):
    if 0 <= value < 256:
        return b"K" + bytes([value])
    return b"J" + int(value).to_bytes(4, "little", signed=True)


def python2_array(data, dtype="u1", shape=None):
    """numpy.ndarray's pickle, protocol 2, by Python 2."""
    rows, columns = shape or data.shape
    return (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85U\x01b\x87Rq\t"
        b"(K\x01" + integer(rows) + integer(columns) + b"\x86"
        b"cnumpy\ndtype\nq\n" + text(dtype) + b"K\x00K\x01\x87Rq\x0b"
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89T" + data.nbytes.to_bytes(4, "little") + data.tobytes() + b"tb"
    )


def python2_batch(images, labels, array=None):
    """A whole batch; `array` stands in for the images' pickle."""
    names = [f"domestic_cat_s_{number:06}.png" for number in range(len(labels))]
    memo = [b"r" + (300 + number).to_bytes(4, "little") for number in range(len(names))]
    return (
        b"\x80\x02}q\x01("
        + text("batch_label") + b"q\x02" + text("training batch 1 of 5") + b"q\x03"
        + text("labels") + b"q\x04]q\x05(" + b"".join(map(integer, labels)) + b"e"
        + text("data") + b"q\x06" + (array or python2_array(images))
        + text("filenames") + b"q\x0d]q\x0e("
        + b"".join(text(name) + put for name, put in zip(names, memo, strict=True)) + b"eu."
    )  # fmt: skip


def random_batch(count, seed=0):
    random = np.random.RandomState(seed)
    images = random.randint(0, 256, (count, 3072)).astype(np.uint8)
    return images, random.randint(0, 10, count).tolist()


def write_folder(folder, count):
    """Six batches and the class names; answers all images and labels in order."""
    folder = Path(folder)
    folder.mkdir(parents=True)
    batches = [random_batch(count, seed) for seed in range(len(FILES))]
    for name, (images, labels) in zip(FILES, batches, strict=True):
        (folder / name).write_bytes(python2_batch(images, labels))
    names = "airplane automobile bird cat deer dog frog horse ship truck".split()
    meta = {"num_cases_per_batch": count, "label_names": names, "num_vis": 3072}
    (folder / "batches.meta").write_bytes(pickle.dumps(meta, protocol=2))
    return np.concatenate([b[0] for b in batches]), np.concatenate([b[1] for b in batches])
