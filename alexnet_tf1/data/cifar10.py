"""Finds or downloads CIFAR-10, python version, verifies and reads it (no TensorFlow)."""

import contextlib
import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from alexnet_tf1 import files
from alexnet_tf1.data import restricted_pickle
from alexnet_tf1.data.dataset import Dataset, Split
from alexnet_tf1.data.download import MAX_FILE_BYTES, DownloadError, fetch, make_writable, unpack
from alexnet_tf1.errors import UserError

FOLDER: Final = "cifar-10-batches-py"
ARCHIVE: Final = "cifar-10-python.tar.gz"
URL: Final = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
ARCHIVE_SHA256: Final = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"

FILE_MD5: Final = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
    "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
}
*BATCH_FILES, META_FILE = FILE_MD5  # the last batch is for testing
CLASS_NAMES: Final = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip

_REMEDY: Final = f"unpack {ARCHIVE} again (from {URL})"

IMAGES_PER_FILE = 10_000
IMAGE_BYTES: Final = 3 * 32 * 32


def find_or_fetch(
    data_dir: Path | None,
    *,
    progress: bool = False,
    announce: Callable[[str], None] = lambda line: None,
) -> Path:
    """Finds the folder of batches, and unpacks or downloads it where it is not there yet.

    Only the user's cache folder is downloaded to: in a folder that somebody named, missing files
    are a mistake, and often a typing mistake.

    Args:
      data_dir: the folder `cifar-10-batches-py`, its parent, or a folder holding
        `cifar-10-python.tar.gz`. None stands for $CIFAR10_DIR, or else the user's cache folder.
      progress: True shows a progress bar while downloading.
      announce: is given a line for the user before anything that takes time.

    Returns:
      A folder that holds batch files; `read` finds out whether they are damaged.

    Raises:
      DownloadError: if nobody named a folder, and it cannot be downloaded.
      UserError: if the named folder holds no CIFAR-10, or the archive is damaged.
    """
    root = root_folder(data_dir)
    if os.path.lexists(root) and not os.path.isdir(root):
        raise UserError(f"{root} is not a folder; give --data-dir the folder that holds CIFAR-10")
    if folder := _folder_of_batches(root):
        return folder
    archive = root / ARCHIVE
    if not os.path.lexists(archive):
        if root != _cache():
            raise _missing(root, data_dir)
        made: list[Path] = []
        try:
            made = make_writable(root)
            announce(f"downloading CIFAR-10 (163 MiB) from {URL} to {root}")
            fetch(URL, ARCHIVE_SHA256, archive, progress=progress)
        except UserError as error:
            # Nobody chose the cache folder: that it cannot be written is no mistake of the user's.
            raise DownloadError(str(error)) from error
        finally:
            files.remove_empty(made)
    announce(f"unpacking {archive}")
    unpack(archive, FILE_MD5, root / FOLDER)
    return root / FOLDER


def _folder_of_batches(root: Path) -> Path | None:
    """Finds the folder that holds at least one batch file: root or its child."""
    places = (folder / name for folder in (root, root / FOLDER) for name in BATCH_FILES)
    return next((place.parent for place in places if os.path.lexists(place)), None)


def _missing(root: Path, data_dir: Path | None) -> UserError:
    """Says that a folder which somebody named holds no CIFAR-10, and what it holds instead."""
    try:
        names = os.listdir(root)
        if os.path.isdir(root / FOLDER):
            names += os.listdir(root / FOLDER)
        found = _instead(sorted(names))
    except FileNotFoundError:
        found = "is not there"
    except NotADirectoryError:
        found = "is not a folder"
    except (OSError, ValueError) as error:
        found = f"cannot be read ({files.reason(error)})"
    return UserError(
        f"{'' if data_dir else '$CIFAR10_DIR '}{root} {found}; give --data-dir the folder that "
        f"holds {FOLDER} or {ARCHIVE} (from {URL})"
    )


def _instead(names: list[str]) -> str:
    """Says by the names of a folder's files what it is, as it is not CIFAR-10's python version."""
    for ending, version in ("bin", "binary"), ("mat", "MATLAB"):
        if any(
            re.fullmatch(rf"cifar-10-(batches-)?{ending}.*|.*_batch.*\.{ending}", n) for n in names
        ):
            return f"holds CIFAR-10's {version} version, not the python version"
    if any(name.startswith("cifar-100") for name in names):
        return "holds CIFAR-100, not CIFAR-10"
    for name in names:
        for wanted in (*BATCH_FILES, ARCHIVE.removesuffix(".tar.gz")):
            if name.startswith(wanted):
                wanted = ARCHIVE if ARCHIVE.startswith(wanted) else wanted
                return f"holds {name}, which has to be called {wanted}"
    return "holds no CIFAR-10"


def check_unpacked(data_dir: Path) -> None:
    """Refuses a folder where `find_or_fetch` would have to make anything.

    The folder that is taken without a data_dir is the user's own choice and passes.

    Raises:
      UserError: if there are no batch files.
    """
    root = root_folder(data_dir)
    if root == root_folder(None) or _folder_of_batches(root):
        return
    if os.path.lexists(root / ARCHIVE):
        raise UserError(
            f"{root} holds {ARCHIVE}, and nothing is unpacked where a run says; unpack it, or give "
            "--data-dir the folder that holds the run's images"
        )
    raise _missing(root, data_dir)


class Whereabouts(NamedTuple):
    """The place where CIFAR-10 is looked for without --data-dir, and what is there.

    `named_by` says what chose the folder, `state` what is there, `verified` whether that is the
    published files, `remedy` what to do; None where nothing is needed.
    """

    folder: Path
    named_by: str
    state: str
    verified: bool = False
    remedy: str | None = None


def whereabouts() -> Whereabouts:
    """Looks for CIFAR-10 and compares its files' MD5; downloads, unpacks and parses nothing.

    Raises:
      UserError: if $CIFAR10_DIR cannot be a folder's name.
    """
    given = os.environ.get("CIFAR10_DIR")
    named_by = "$CIFAR10_DIR" if given else "the cache folder"
    root = root_folder(None)
    folder = _folder_of_batches(root)
    if folder is None:
        if os.path.lexists(root / ARCHIVE):
            return Whereabouts(root, named_by, f"{ARCHIVE}, to be unpacked by the next run")
        if os.path.lexists(root) and not root.is_dir():
            return Whereabouts(root, named_by, "not a folder", remedy=f"{named_by}: name a folder")
        if given:
            return Whereabouts(root, named_by, "not there", remedy=str(_missing(root, None)))
        remedy = f"CIFAR-10: train downloads it, or put {ARCHIVE} into {root} (from {URL})"
        return Whereabouts(root, named_by, "not there", remedy=remedy)
    try:
        published = [_is_published(folder / name, _file_bytes(folder / name)) for name in FILE_MD5]
    except UserError as error:
        return Whereabouts(folder, named_by, "damaged", remedy=str(error))
    if all(published):
        return Whereabouts(folder, named_by, "the official files, verified", True)
    return Whereabouts(
        folder, named_by, "not the official files (MD5 differs); results are marked not verified"
    )


def root_folder(data_dir: Path | None) -> Path:
    """Names the folder to look in: data_dir, else $CIFAR10_DIR, else the user's cache folder.

    Raises:
      UserError: if it cannot be a folder's name.
    """
    named = data_dir or os.environ.get("CIFAR10_DIR")
    if not named:
        return _cache()
    with contextlib.suppress(UnicodeEncodeError):  # a run's config.json may hold any text
        if b"\0" not in os.fsencode(named):
            return Path(os.path.expanduser(named))  # ~ is the shell's, which --data-dir=~/x escapes
    raise UserError(f"{named} cannot be a folder's name; give --data-dir another")


def _cache() -> Path:
    import pooch  # see download.fetch

    return Path(pooch.os_cache("alexnet-tf1"))


def read(folder: Path) -> Dataset:
    """Reads the data set.

    Three times one file's bytes are held beside the result, 93 MB; the result is 184 MB of uint8.

    Args:
      folder: holds `data_batch_1` to `data_batch_5`, `test_batch` and, as a rule, `batches.meta`;
        without the last the class names are the standard ones, and the set is not verified.

    Returns:
      The set, train uint8 [50000, 3072] and test uint8 [10000, 3072], in the files' order;
      verified where every file has its published MD5.

    Raises:
      UserError: at the first fault, naming the file, the fault and the remedy.
    """
    images = np.empty((len(BATCH_FILES) * IMAGES_PER_FILE, IMAGE_BYTES), np.uint8)
    labels = np.empty(len(images), np.int64)
    published = []
    for number, name in enumerate(BATCH_FILES):
        path = folder / name
        data = _file_bytes(path)
        batch = _unpickled(path, data)
        rows = slice(number * IMAGES_PER_FILE, (number + 1) * IMAGES_PER_FILE)
        images[rows], labels[rows] = _images(path, batch), _labels(path, batch)
        published.append(_is_published(path, data))
        del data, batch  # before the next file is read
    class_names, is_published = _read_class_names(folder / META_FILE)
    train = Split(images[:-IMAGES_PER_FILE], labels[:-IMAGES_PER_FILE])
    test = Split(images[-IMAGES_PER_FILE:], labels[-IMAGES_PER_FILE:])
    return Dataset("cifar10", all(published) and is_published, train, test, class_names)


def _is_published(path: Path, data: bytes) -> bool:
    return hashlib.md5(data, usedforsecurity=False).hexdigest() == FILE_MD5[path.name]


def _fault(path: Path, fault: str) -> UserError:
    return UserError(f"{path} {fault}; {_REMEDY}")


def _file_bytes(path: Path) -> bytes:
    data = files.read_bytes(path, MAX_FILE_BYTES, _REMEDY)
    if not data:
        raise _fault(path, "is empty")
    return data


def _unpickled(path: Path, data: bytes) -> dict[str, object]:
    try:
        content = restricted_pickle.loads(data)
    except restricted_pickle.RefusedNameError as error:
        raise _fault(path, f"{error}, which no CIFAR-10 file needs: refused, not run") from error
    except restricted_pickle.BadPickleError as error:
        raise _fault(path, f"is no CIFAR-10 file: {error}") from error
    if not isinstance(content, dict):
        raise _fault(path, f"holds a {type(content).__name__}, not a dict")
    return content


def _item(path: Path, content: dict[str, object], key: str) -> object:
    if key not in content:
        raise _fault(path, f"has no key '{key}'")
    return content[key]


def _images(path: Path, batch: dict[str, object]) -> npt.NDArray[np.uint8]:
    """Checks the images of a batch and returns them, uint8 [IMAGES_PER_FILE, 3072]."""
    stored, shape = _item(path, batch, "data"), (IMAGES_PER_FILE, IMAGE_BYTES)
    if not isinstance(stored, restricted_pickle.Array):
        raise _fault(path, f"has a {type(stored).__name__} for 'data', not an array")
    if stored.dtype not in ("u1", "|u1"):
        raise _fault(path, f"has 'data' of dtype {stored.dtype[:20]!r}, not uint8")
    if stored.shape != shape:
        found = stored.shape  # the file may have put anything there
        told = isinstance(found, tuple) and len(found) <= 8 and all(type(n) is int for n in found)
        raise _fault(path, f"has 'data' of shape {found if told else 'unknown'}, not {shape}")
    elements = stored.elements()
    if elements is None or len(elements) != IMAGES_PER_FILE * IMAGE_BYTES:
        raise _fault(path, f"has 'data' with fewer or more bytes than its shape {shape} says")
    return np.frombuffer(elements, np.uint8).reshape(shape, order=stored.order)


def _labels(path: Path, batch: dict[str, object]) -> list[int]:
    """Checks the labels of a batch and returns them: IMAGES_PER_FILE ints 0..9."""
    labels = _item(path, batch, "labels")
    if not isinstance(labels, list):
        raise _fault(path, f"has a {type(labels).__name__} for 'labels', not a list")
    if len(labels) != IMAGES_PER_FILE:
        raise _fault(path, f"has {len(labels)} labels for {IMAGES_PER_FILE} images")
    for row, label in enumerate(labels):
        if type(label) is not int:  # bool is an int too, but no label
            raise _fault(path, f"has a {type(label).__name__} as label {row}, not an int")
        if not 0 <= label <= 9:
            raise _fault(path, f"has {label} as label {row}, not 0..9")
    return labels


def _read_class_names(path: Path) -> tuple[tuple[str, ...], bool]:
    """Reads the ten class names; returns also whether the file is the published one."""
    if not os.path.lexists(path):
        return CLASS_NAMES, False
    data = _file_bytes(path)
    names = _item(path, _unpickled(path, data), "label_names")
    if not isinstance(names, list) or len(names) != len(CLASS_NAMES):
        raise _fault(path, "has no list of ten 'label_names'")
    if not all(isinstance(name, str) and name.isprintable() and name for name in names):
        raise _fault(path, "has a class name that is no text")
    return tuple(names), _is_published(path, data)
