"""Reads what a model is fed: arrays of examples, values that stay as they are, and labels."""

import math
import os
import re
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from alexnet_tf1.checkpoint.pointer import refuse_pointer
from alexnet_tf1.errors import UserError
from alexnet_tf1.files import open_regular

Array = npt.NDArray[Any]
_FORM = "NAME=FILE.npy or NAME=FILE.npz:KEY"
# What NumPy and the standard library raise for files that are damaged or something else.
_UNREADABLE = (
    *(ValueError, EOFError, OSError, ArithmeticError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error),
)


@dataclass(frozen=True)
class Examples:
    """A model's input, by the names that the user gave: tensors, or a signature's inputs.

    Attributes:
      arrays: fed per example, [N, ...] each; a large file stays on disk as a memory map.
      constants: fed as they are with every batch.
      count: examples used, the first ones of the arrays.
    """

    arrays: Mapping[str, Array]
    constants: Mapping[str, Array]
    count: int

    def batch(self, rows: npt.NDArray[np.int64]) -> dict[str, Array]:
        """Gives what is fed, by name, for the examples of these rows, int64 [M], as one batch."""
        arrays = {name: np.asarray(array[rows]) for name, array in self.arrays.items()}
        return {**arrays, **self.constants}


def read_examples(
    feeds: Sequence[str], settings: Sequence[str] = (), examples: int | None = None
) -> Examples:
    """Reads what the options --feed, --set and --examples say.

    Args:
      feeds: NAME=FILE.npy or NAME=FILE.npz:KEY each, with the examples along the first axis.
      settings: NAME=VALUE each, a number, true or false.
      examples: how many to use, the first ones; None for all.

    Raises:
      UserError: if an option or its file cannot be used, if arrays differ in length, or if a name
        is given twice.
    """
    arrays, constants = {}, {}
    taken: dict[str, str] = {}
    for given in feeds:
        option = f"--feed {given}"
        name, file = _named(option, given, _FORM, taken)
        arrays[name] = _read(option, file)
    for given in settings:
        option = f"--set {given}"
        name, value = _named(option, given, "NAME=VALUE", taken)
        constants[name] = _value(option, value)
    if not arrays:
        raise UserError(f"nothing is fed per example; give --feed {_FORM}")
    (first, count), *others = ((name, len(array)) for name, array in arrays.items())
    for name, length in others:
        if length != count:
            raise UserError(
                f"--feed {name} has {length:,} examples and --feed {first} has {count:,}; give "
                "arrays with one example for another along their first axis"
            )
    if examples is not None and examples > count:
        raise UserError(f"--examples {examples} is more than the {count:,} examples of --feed")
    return Examples(arrays, constants, count if examples is None else examples)


def read_labels(given: str, examples: Examples) -> npt.NDArray[np.int64]:
    """Reads the class numbers that --labels names, FILE.npy or FILE.npz:KEY.

    Args:
      given: the option's value.
      examples: what the labels are of; there must be as many in the file.

    Returns:
      int64 [examples.count], or [examples.count, ...] where an example has several.

    Raises:
      UserError: if they cannot be read, or are no class numbers of these examples.
    """
    option = f"--labels {given}"
    labels = _read(option, given)
    if labels.dtype.kind not in "biu":
        raise UserError(
            f"{option} holds {labels.dtype}, no class numbers; give whole numbers, as of "
            "labels.astype(int)"
        )
    available = len(next(iter(examples.arrays.values())))
    if len(labels) != available:
        raise UserError(
            f"{option} has {len(labels):,} labels for {available:,} examples; give one for each"
        )
    used = np.asarray(labels[: examples.count], dtype=np.int64)
    if used.ndim > 1 and used.shape[-1] > 1 and _one_hot(used):
        raise UserError(
            f"{option} is one-hot, of the shape {list(labels.shape)}; give class numbers, as of "
            "numpy.argmax(labels, axis=-1)"
        )
    return used


def _one_hot(labels: npt.NDArray[np.int64]) -> bool:
    return bool(((labels == 0) | (labels == 1)).all() and (labels.sum(axis=-1) == 1).all())


def examples_of(feeds: Any, examples: int | None = None) -> Examples:
    """Collects what a program feeds: one dict of whole arrays, or the dicts of many batches.

    The first value that is no scalar counts the examples. Values that have as many along their
    first axis are fed per example, the others as they are.

    Args:
      feeds: a dict as `session.run` takes it, by tensor or name, or an iterable of such dicts.
      examples: the most to use, the first ones; None for all.

    Raises:
      UserError: if that is no such thing, or if the batches do not fit together.
    """
    if isinstance(feeds, Mapping):
        arrays, constants = _split(feeds)
        count = len(next(iter(arrays.values())))
        return Examples(arrays, constants, count if examples is None else min(count, examples))
    if not isinstance(feeds, Iterable):
        raise UserError(
            f"feeds is a {type(feeds).__name__}; give a dict of arrays, or an iterable of dicts"
        )
    return _joined(feeds, examples)


def _joined(batches: Iterable[Any], examples: int | None) -> Examples:
    """Joins batches until there are enough examples."""
    parts: list[dict[str, Array]] = []
    constants: dict[str, Array] = {}
    count = 0
    for batch in batches:
        if not isinstance(batch, Mapping):
            raise UserError(f"feeds yields a {type(batch).__name__}; give a dict for each batch")
        arrays, others = _split(batch)
        if not parts:
            constants = others
        elif arrays.keys() != parts[0].keys() or not _equal(others, constants):
            raise UserError(
                "feeds yields batches that differ in what they feed; give the same names in each, "
                "and the same values for what is not per example"
            )
        parts.append(arrays)
        count += len(next(iter(arrays.values())))
        if examples is not None and count >= examples:
            break
    if not parts:
        raise UserError("feeds yields nothing; give at least one batch")
    try:
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    except ValueError as error:
        raise UserError(f"feeds yields batches that differ in shape ({error})") from None
    return Examples(joined, constants, count if examples is None else min(count, examples))


def _split(feed: Mapping[Any, Any]) -> tuple[dict[str, Array], dict[str, Array]]:
    """Separates what a feed dict holds per example from the rest."""
    values = {str(getattr(key, "name", key)): np.asanyarray(value) for key, value in feed.items()}
    count = next((len(value) for value in values.values() if value.ndim), 0)
    if count == 0:
        raise UserError("feeds holds no examples; give arrays with the examples along an axis")
    arrays = {name: v for name, v in values.items() if v.ndim and len(v) == count}
    return arrays, {name: v for name, v in values.items() if name not in arrays}


def _equal(some: Mapping[str, Array], others: Mapping[str, Array]) -> bool:
    return some.keys() == others.keys() and all(
        np.array_equal(some[name], others[name]) for name in some
    )


def _named(option: str, given: str, form: str, taken: dict[str, str]) -> tuple[str, str]:
    """Separates NAME from what is given for it; refuses a NAME given before (UserError)."""
    name, equals, rest = given.partition("=")
    if not (name.strip() and equals and rest):
        raise UserError(f"{option} is not of the form {form}")
    key = name.removesuffix(":0")  # of the tensor x:0, x is another name
    if key in taken:
        raise UserError(f"{option} and {taken[key]} are for the same tensor; leave one out")
    taken[key] = option
    return name, rest


def _value(option: str, text: str) -> Array:
    """Reads a number, true or false."""
    if text.lower() in ("true", "false"):
        return np.asarray(text.lower() == "true")
    for kind in (int, float):
        try:
            value = np.asarray(kind(text))
        except ValueError:
            continue
        if value.dtype.kind in "if" and math.isfinite(value):
            return value
    raise UserError(f"{option} gives no value that can be fed; give a number, true or false")


def _read(option: str, given: str) -> Array:
    """Reads an array of examples: a .npy file as a memory map, or one array of a .npz file."""
    path, key = _split_key(given)
    if not os.path.isfile(path):  # a pipe would wait for its writer
        there = "is no file" if os.path.exists(path) else "is missing"
        raise UserError(f"{option}: {path} {there}; name FILE.npy, or FILE.npz:KEY")
    try:
        refuse_pointer(path)
        loaded = _load(option, path, key)
    except MemoryError:
        raise UserError(f"{option}: {path} does not fit into memory; write it as .npy") from None
    except _UNREADABLE as error:
        why = str(error).partition("\n")[0]
        if "Python objects" in why or "Object arrays" in why:  # NumPy's words of a .npy and a .npz
            why = "it holds Python objects, not numbers"
        elif "pickled" in why:  # so NumPy says of all that it does not know
            why = "not in NumPy's format"
        raise UserError(
            f"{option}: {path} cannot be read ({why}); write it with numpy.save(FILE, array)"
        ) from None
    return _usable(option, loaded)


def _split_key(given: str) -> tuple[str, str]:
    """Splits FILE.npz:KEY; both may hold what separates them. KEY is empty where there is none."""
    ends = [found.end() - 1 for found in re.finditer(r"\.npz:", given)]
    if not ends or os.path.exists(given):
        return given, ""
    end = next((end for end in ends if os.path.isfile(given[:end])), ends[0])
    return given[:end], given[end + 1 :]


def _load(option: str, path: str, key: str) -> Any:
    """Maps a .npy file into memory, or reads one array of a .npz file."""
    with open_regular(path) as file:
        if file.read(2) != b"PK":  # no archive
            return np.load(path, mmap_mode="r", allow_pickle=False)
        file.seek(0)
        with np.load(file, allow_pickle=False) as archive:
            return _member(option, path, archive, key)


def _member(option: str, path: str, archive: Any, key: str) -> Any:
    if key not in archive.files:
        said = f"{path} has no array {key!r}" if key else f"{path} holds arrays by name"
        keys = ", ".join(archive.files) or "none"
        raise UserError(f"{option}: {said}; name one as {path}:KEY, of {keys}")
    return archive[key]


def _usable(option: str, loaded: Any) -> Array:
    """Refuses what no model can be fed example by example (UserError)."""
    if not isinstance(loaded, np.ndarray) or loaded.dtype.kind not in "biufcSU":
        kind = loaded.dtype if isinstance(loaded, np.ndarray) else "no array"
        raise UserError(f"{option} holds {kind}; give an array of numbers or strings")
    if loaded.ndim == 0:
        raise UserError(
            f"{option} holds a single value and no examples; give a value that stays as it is "
            "with --set NAME=VALUE"
        )
    if len(loaded) == 0:
        raise UserError(f"{option} holds no examples: its shape is {list(loaded.shape)}")
    return loaded
