import os
import pickle
import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from support.cifar10_files import (
    FILES,
    python2_array,
    python2_batch,
    random_batch,
    text,
    write_folder,
)

from alexnet_tf1.data import cifar10
from alexnet_tf1.data.download import DownloadError
from alexnet_tf1.data.load import load_dataset
from alexnet_tf1.errors import UserError

COUNT = 20  # images a file, here


@pytest.fixture(autouse=True)
def small_and_offline(monkeypatch, tmp_path):
    def no_network(url, *_, **__):
        raise DownloadError(f"cannot download {url} (no network in tests)")

    monkeypatch.setattr(cifar10, "IMAGES_PER_FILE", COUNT)
    monkeypatch.setattr(cifar10, "fetch", no_network)
    monkeypatch.delenv("CIFAR10_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "data" / cifar10.FOLDER


@pytest.fixture
def arrays(folder):
    return write_folder(folder, COUNT)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The cache folder, which is not there yet."""
    import pooch

    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    return tmp_path / "cache" / "alexnet-tf1"


def write_archive(root, folder):
    root.mkdir(parents=True, exist_ok=True)
    with tarfile.open(root / cifar10.ARCHIVE, "w:gz") as tar:
        tar.add(folder, cifar10.FOLDER)


def test_reads_all_images_in_order(folder, arrays):
    images, labels = arrays
    data = cifar10.read(folder)
    assert (data.name, data.verified) == ("cifar10", False)
    assert data.class_names == cifar10.CLASS_NAMES
    for split, rows in [(data.train, slice(5 * COUNT)), (data.test, slice(5 * COUNT, None))]:
        assert (split.images.dtype, split.labels.dtype) == (np.uint8, np.int64)
        np.testing.assert_array_equal(split.images, images[rows])
        np.testing.assert_array_equal(split.labels, labels[rows])


def test_reading_holds_three_times_one_file_beside_the_result(folder, monkeypatch):
    monkeypatch.setattr(cifar10, "IMAGES_PER_FILE", 500)
    write_folder(folder, 500)
    file_bytes = (folder / "test_batch").stat().st_size
    tracemalloc.start()
    try:
        cifar10.read(folder)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 6 * file_bytes < peak < 9.5 * file_bytes


def publish(monkeypatch, folder):
    """Declares the folder's files the published ones."""
    from hashlib import md5

    for name in cifar10.FILE_MD5:
        monkeypatch.setitem(cifar10.FILE_MD5, name, md5((folder / name).read_bytes()).hexdigest())


def test_published_files_are_verified(folder, arrays, monkeypatch):
    publish(monkeypatch, folder)
    assert cifar10.read(folder).verified


@pytest.mark.parametrize("name", [*FILES, "batches.meta"])
def test_one_other_file_is_enough_not_to_be_verified(folder, arrays, monkeypatch, name):
    publish(monkeypatch, folder)
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data + b"\n")
    assert not cifar10.read(folder).verified


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_batches_written_by_todays_numpy_are_read(folder, arrays, protocol):
    images, labels = arrays
    batch = {"labels": labels[:COUNT].tolist(), "data": np.asfortranarray(images[:COUNT])}
    (folder / "data_batch_1").write_bytes(pickle.dumps(batch, protocol=protocol))
    np.testing.assert_array_equal(cifar10.read(folder).train.images, images[: 5 * COUNT])


def test_class_names_are_the_files_or_the_standard_ones(folder, arrays, monkeypatch):
    publish(monkeypatch, folder)
    names = list("abcdefghij")
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": names}, protocol=2))
    assert cifar10.read(folder).class_names == tuple(names)
    (folder / "batches.meta").unlink()
    assert cifar10.read(folder).class_names == cifar10.CLASS_NAMES


IMAGES, LABELS = random_batch(COUNT)
GOOD = python2_batch(IMAGES, LABELS)


def with_labels(*last):
    return python2_batch(IMAGES, [*LABELS[: COUNT - len(last)], *last])


def with_array(*arguments, **options):
    return python2_batch(IMAGES, LABELS, python2_array(*arguments, **options))


def dumped(content):
    return pickle.dumps(content, protocol=2)


MALFORMED = {
    "is empty": b"",
    r"only \d+ remain": GOOD[: len(GOOD) // 2],
    "not a well-formed pickle .at position 0": b"<html>404</html>",
    "holds a list, not a dict": dumped([1, 2]),
    "has no key 'data'": dumped({"labels": LABELS}),
    "has no key 'labels'": python2_batch(IMAGES, LABELS).replace(text("labels"), text("fine_l")),
    r"shape \(19, 3072\), not \(20, 3072\)": with_array(IMAGES[1:]),
    r"shape \(20, 3073\), not": with_array(np.zeros((COUNT, 3073), np.uint8)),
    "fewer or more bytes": with_array(IMAGES[1:], shape=(COUNT, 3072)),
    "dtype 'f4', not uint8": with_array(IMAGES.astype(np.float32), dtype="f4"),
    "dtype 'i1', not uint8": with_array(IMAGES, dtype="i1"),
    "dtype 'O8', not uint8": dumped({"labels": LABELS, "data": IMAGES.astype(object)}),
    "has a list for 'data'": dumped({"labels": LABELS, "data": [1, 2]}),
    "has 10 as label 19, not 0..9": with_labels(10),
    "has -1 as label 18, not 0..9": with_labels(-1, 5),
    "has 19 labels for 20 images": python2_batch(IMAGES, LABELS[1:]),
    "has 21 labels for 20 images": python2_batch(IMAGES, [*LABELS, 1]),
    "has a str as label 19": dumped({"labels": [*LABELS[1:], "cat"], "data": IMAGES}),
    "has a bool as label 19": dumped({"labels": [*LABELS[1:], True], "data": IMAGES}),
    "has a Array for 'labels'": dumped({"labels": np.array(LABELS), "data": IMAGES}),
    "names 'posix.system', which": b"\x80\x02cposix\nsystem\nU\x04true\x85R.",
}


@pytest.mark.parametrize("message", MALFORMED)
@pytest.mark.parametrize("name", ["data_batch_3", "test_batch"])
def test_each_fault_has_its_message(folder, arrays, name, message):
    (folder / name).write_bytes(GOOD)
    cifar10.read(folder)  # the file without the fault is read
    (folder / name).write_bytes(MALFORMED[message])
    with pytest.raises(UserError, match=message) as caught:
        cifar10.read(folder)
    line = str(caught.value)
    assert line.startswith(str(folder / name))
    assert cifar10.URL in line  # the remedy
    assert len(line.splitlines()) == 1


def huge(path):
    with path.open("wb") as file:
        file.truncate(10**10)  # sparse: takes no space


@pytest.mark.parametrize(
    ("replace", "message"),
    [
        (lambda path: None, "is missing"),
        (lambda path: path.mkdir(), "is a folder, not a file"),
        (lambda path: path.symlink_to("nowhere"), "is missing"),
        (huge, "has more than the 67,108,864 bytes that are read"),
        pytest.param(
            lambda path: os.mkfifo(path),
            "Not a regular file",
            marks=pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here"),
        ),
    ],
    ids=["missing", "folder", "dangling link", "huge", "pipe"],
)
@pytest.mark.parametrize("name", ["data_batch_1", "test_batch"])
def test_what_is_no_file_has_its_message(folder, arrays, name, replace, message):
    (folder / name).unlink()
    replace(folder / name)
    with pytest.raises(UserError, match=message) as caught:
        cifar10.read(folder)
    assert str(caught.value).startswith(str(folder / name))


@pytest.mark.parametrize(
    "meta",
    [{}, {"label_names": "cat"}, {"label_names": list("abc")}, {"label_names": ["\x1b[2J"] * 10}],
)
def test_malformed_class_names_are_refused(folder, arrays, meta):
    (folder / "batches.meta").write_bytes(dumped(meta))
    with pytest.raises(UserError, match=r"batches\.meta has (no|a class)"):
        cifar10.read(folder)


def test_data_dir_may_be_the_folder_or_its_parent(folder, arrays):
    assert cifar10.find_or_fetch(folder) == folder
    assert cifar10.find_or_fetch(folder.parent) == folder
    assert cifar10.find_or_fetch(Path(os.path.relpath(folder.parent))).samefile(folder)


def test_data_dir_may_hold_the_archive(folder, arrays, tmp_path):
    write_archive(tmp_path / "downloads", folder)
    lines = []
    found = cifar10.find_or_fetch(tmp_path / "downloads", announce=lines.append)
    assert found == tmp_path / "downloads" / cifar10.FOLDER
    assert len(lines) == 1
    assert "unpacking" in lines[0]
    np.testing.assert_array_equal(cifar10.read(found).test.images, arrays[0][5 * COUNT :])
    assert cifar10.find_or_fetch(tmp_path / "downloads", announce=lines.append) == found
    assert len(lines) == 1


def test_without_data_dir_the_environment_then_the_cache_is_used(
    folder, arrays, cache, monkeypatch
):
    write_archive(cache, folder)
    assert cifar10.find_or_fetch(None) == cache / cifar10.FOLDER
    monkeypatch.setenv("CIFAR10_DIR", str(folder.parent))
    assert cifar10.find_or_fetch(None) == folder
    monkeypatch.setenv("CIFAR10_DIR", "")
    assert cifar10.find_or_fetch(None) != folder


@pytest.mark.parametrize("as_recorded", [False, True])
def test_downloads_to_the_cache_and_unpacks(folder, arrays, cache, monkeypatch, as_recorded):
    def fetch(url, sha256, target, *, progress):
        assert (url, sha256) == (cifar10.URL, cifar10.ARCHIVE_SHA256)
        write_archive(target.parent, folder)

    monkeypatch.setattr(cifar10, "fetch", fetch)
    lines = []
    found = cifar10.find_or_fetch(cache if as_recorded else None, announce=lines.append)
    assert found == cache / cifar10.FOLDER
    assert cifar10.URL in lines[0]
    assert sorted(path.name for path in found.iterdir()) == sorted([*FILES, "batches.meta"])


def test_a_failed_download_leaves_no_folder(cache):
    with pytest.raises(DownloadError, match="no network"):
        cifar10.find_or_fetch(None)
    assert not cache.parent.exists()


def named(place, how, monkeypatch):
    """Names the folder by the option or the variable; returns what find_or_fetch takes."""
    if how == "--data-dir":
        return place
    monkeypatch.setenv("CIFAR10_DIR", str(place))
    return None


MISNAMED = {  # names in the folder: what the line says of it
    ("cat.jpg",): "holds no CIFAR-10;",
    ("cifar-10-batches-bin",): "holds CIFAR-10's binary version",
    ("cifar-10-binary.tar.gz",): "holds CIFAR-10's binary version",
    ("batches.meta.txt", "data_batch_1.bin", "test_batch.bin"): "holds CIFAR-10's binary version",
    ("batches.meta.mat", "data_batch_1.mat", "test_batch.mat"): "holds CIFAR-10's MATLAB version",
    ("cifar-100-python",): "holds CIFAR-100, not CIFAR-10",
    ("data_batch_1.pkl", "test_batch.pkl"): "holds data_batch_1.pkl, .* called data_batch_1;",
    ("cifar-10-python (1).tar.gz",): r"called cifar-10-python\.tar\.gz;",
}


@pytest.mark.parametrize("how", ["--data-dir", "$CIFAR10_DIR"])
@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("names", MISNAMED)
def test_a_named_folder_that_holds_something_else_is_refused_and_says_what(
    tmp_path, monkeypatch, names, inside, how
):
    place = tmp_path / "named"
    holder = place / cifar10.FOLDER if inside else place
    holder.mkdir(parents=True)
    for name in names:
        (holder / name).touch()
    data_dir = named(place, how, monkeypatch)
    with pytest.raises(UserError, match=MISNAMED[names]) as caught:
        load("auto", data_dir)
    line = str(caught.value)
    assert line.startswith(f"{place} " if data_dir else f"$CIFAR10_DIR {place} ")
    assert "--data-dir" in line
    assert sorted(path.name for path in holder.iterdir()) == sorted(names)


@pytest.mark.parametrize("how", ["--data-dir", "$CIFAR10_DIR"])
@pytest.mark.parametrize("name", ["auto", "cifar10"])
def test_a_named_folder_that_is_not_there_never_falls_back(tmp_path, monkeypatch, name, how):
    with pytest.raises(UserError, match="is not there") as caught:
        load(name, named(tmp_path / "no" / "where", how, monkeypatch))
    assert not isinstance(caught.value, DownloadError)
    assert not (tmp_path / "no").exists()


def test_a_cache_that_cannot_be_written_is_a_failed_download(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(DownloadError, match="cannot write to"):
        cifar10.find_or_fetch(None)


def load(name, data_dir):
    lines = []
    data = load_dataset(name, data_dir, announce=lines.append)
    return data, lines


@pytest.mark.parametrize("name", ["auto", "cifar10"])
def test_load_takes_cifar10_where_it_is(folder, arrays, name):
    data, lines = load(name, folder)
    assert data.name == "cifar10"
    assert len(lines) == 1
    assert lines[0].startswith(f"warning: {folder}: these files are not the official")


def test_load_of_published_files_says_nothing(folder, arrays, monkeypatch):
    publish(monkeypatch, folder)
    assert load("auto", folder)[1] == []


def test_auto_falls_back_and_says_why(cache):
    data, lines = load("auto", None)
    assert data.name == "synthetic"
    banner = "\n".join(lines)
    assert "no network in tests" in banner
    assert "SYNTHETIC" in banner


def test_cifar10_by_name_never_falls_back(cache):
    with pytest.raises(DownloadError):
        load("cifar10", None)


@pytest.mark.parametrize("name", ["auto", "cifar10"])
def test_damaged_data_never_falls_back(folder, arrays, name):
    (folder / "data_batch_2").write_bytes(GOOD[:-10])
    with pytest.raises(UserError, match="data_batch_2"):
        load(name, folder)
    (folder / "data_batch_2").unlink()
    with pytest.raises(UserError, match="data_batch_2 is missing"):
        load(name, folder)


@pytest.mark.parametrize("name", ["auto", "cifar10"])
def test_a_damaged_archive_never_falls_back(tmp_path, name):
    (tmp_path / cifar10.ARCHIVE).write_bytes(b"<html>404</html>")
    with pytest.raises(UserError, match=r"cifar-10-python\.tar\.gz is damaged"):
        load(name, tmp_path)


@pytest.mark.parametrize("name", ["auto", "cifar10"])
def test_a_file_for_data_dir_never_falls_back(tmp_path, name):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match="is not a folder"):
        load(name, tmp_path / "file")


def test_synthetic_by_name_looks_for_nothing(folder, arrays):
    data, lines = load("synthetic", folder)
    assert (data.name, lines) == ("synthetic", [])


REAL = os.environ.get("CIFAR10_DIR")  # read before the fixture above takes it away


@pytest.mark.real_data
@pytest.mark.skipif(not REAL, reason="needs CIFAR10_DIR")
def test_the_real_set(monkeypatch):
    monkeypatch.setattr(cifar10, "IMAGES_PER_FILE", 10_000)
    data = cifar10.read(cifar10.find_or_fetch(Path(REAL)))
    assert data.class_names == cifar10.CLASS_NAMES
    assert np.bincount(data.train.labels).tolist() == [5000] * 10
    assert np.bincount(data.test.labels).tolist() == [1000] * 10
    assert data.train.images.shape == (50_000, 3072)
    assert data.test.images.shape == (10_000, 3072)
    assert data.train.labels[:5].tolist() == [6, 9, 9, 4, 1]  # frog, truck, truck, deer, car
    assert data.test.labels[:5].tolist() == [3, 8, 8, 0, 6]
    assert 118 < data.train.images.mean() < 123  # 120.7 in the published files
