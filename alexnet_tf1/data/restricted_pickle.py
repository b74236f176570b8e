"""Reads pickles as plain data: nothing that a file names is ever imported or called.

A CIFAR-10 file is a dict of text, lists of small ints and one byte array. Python's unpickler can
call anything. With `find_class` overridden it still lets ten bytes ask for gigabytes (LONG_BINPUT
grows the memo to the index given) and a dict key run for ever (a tuple that holds itself twice, in
sixty steps, has 2**60 leaves to hash). So a pass over the opcodes, which builds nothing, comes
first: it admits only what such a file needs, and bounds it. Reading takes at most three times the
file's size and some 10 MB.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Callable
from typing import Final, Literal

# A batch takes about 10,000 opcodes for its labels and 20,000 for its file names. Every opcode
# makes at most one small object, so this also bounds the memory at some 10 MB.
MAX_OPCODES: Final = 100_000
MAX_TUPLES: Final = 100  # an array takes 7; a key nested 100,000 deep would end the process
# Only what these make may be used a second time: constants, names and the results of the calls
# below. Nothing is nested in them that a dict would hash.
_LEAVES: Final = frozenset(
    """REDUCE NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 SHORT_BINSTRING BINSTRING
    SHORT_BINUNICODE BINUNICODE SHORT_BINBYTES BINBYTES BINBYTES8 BYTEARRAY8 GLOBAL
    STACK_GLOBAL""".split()
)
_TUPLES: Final = frozenset("EMPTY_TUPLE TUPLE1 TUPLE2 TUPLE3 TUPLE".split())
_PUTS: Final = frozenset("BINPUT LONG_BINPUT MEMOIZE".split())
_GETS: Final = frozenset("BINGET LONG_BINGET".split())
_OTHERS = "PROTO FRAME STOP MARK EMPTY_LIST APPEND APPENDS EMPTY_DICT SETITEM SETITEMS BUILD"
_ALLOWED: Final = _LEAVES | _TUPLES | _PUTS | _GETS | frozenset(_OTHERS.split())


class BadPickleError(ValueError):
    """The file is not a pickle of plain data; the message says in a clause what it holds."""


class RefusedNameError(BadPickleError):
    """The file names something that no CIFAR-10 file needs."""


class Array:
    """An array as it is stored; nothing about it has been checked.

    Attributes:
      shape: the shape that the file claims.
      dtype: NumPy's short name of the elements' type, e.g. "u1" for uint8.
      order: "C" (rows first) or "F" (columns first).
    """

    __hash__ = None  # type: ignore[assignment]  # it may hold anything

    def __init__(self, data: object, dtype: object, shape: object, order: object) -> None:
        self.__setstate__((1, shape, dtype, order == "F", data))

    def __setstate__(self, state: tuple[object, ...]) -> None:
        _version, self.shape, dtype, is_fortran, self._data = state
        if not isinstance(dtype, _Dtype):
            raise BadPickleError("an array without a dtype")
        self.dtype: str = dtype
        self.order: Literal["C", "F"] = "F" if is_fortran else "C"

    def elements(self) -> bytes | bytearray | None:
        """Returns the elements' bytes; None where the file holds no bytes."""
        if isinstance(self._data, str):  # as protocol 2 spells them
            return self._data.encode("latin-1", "ignore")
        return self._data if isinstance(self._data, bytes | bytearray) else None


class _Dtype(str):
    """A NumPy dtype's name; its state adds nothing for one-byte elements."""

    def __new__(cls, name: object, *_: object) -> _Dtype:
        if not isinstance(name, str):
            raise BadPickleError("a dtype whose name is no text")
        return super().__new__(cls, name)

    def __setstate__(self, state: object) -> None:
        pass


class _Admitted:
    """Stands for a name that is admitted: REDUCE calls it, and BUILD cannot change it."""

    def __init__(self, call: Callable[..., object]) -> None:
        self._call = call

    def __call__(self, *arguments: object) -> object:
        return self._call(*arguments)

    def __setstate__(self, state: object) -> None:
        raise BadPickleError("state for what is no array")


def _encode(text: object, encoding: object) -> object:
    """Keeps the text, as two hundred encodings of one megabyte would take 200; see Array."""
    if not isinstance(text, str) or encoding != "latin1":
        raise BadPickleError("a call of encode with other arguments than an array's")
    return text


# What NumPy 1 and 2 write for a uint8 array: under protocol 2 (Python 2, or today's protocol 2
# with the bytes spelt as Latin-1 text), 3, 4 and 5.
_RECONSTRUCT: Final = _Admitted(lambda *_: Array(None, _Dtype(""), None, "C"))  # BUILD fills it
_FROMBUFFER: Final = _Admitted(Array)
_NAMES: Final = {
    "numpy.core.multiarray._reconstruct": _RECONSTRUCT,
    "numpy._core.multiarray._reconstruct": _RECONSTRUCT,
    "numpy.core.numeric._frombuffer": _FROMBUFFER,
    "numpy._core.numeric._frombuffer": _FROMBUFFER,
    "numpy.ndarray": _Admitted(lambda: None),  # an argument; it is never called
    "numpy.dtype": _Admitted(_Dtype),
    "_codecs.encode": _Admitted(_encode),
}


class _Unpickler(pickle.Unpickler):
    """Looks names up in the table above and nowhere else."""

    def find_class(self, module: str, name: str) -> object:
        full = f"{module}.{name}"
        if full not in _NAMES:
            # repr, cut short: the file chose these characters, and they go to a terminal
            raise RefusedNameError(f"names {full[:80]!r}")
        return _NAMES[full]


def loads(data: bytes) -> object:
    """Reads one pickle, the bytes of a whole file.

    Returns:
      None, bool, int, str, bytes, tuple, list, dict, and Array for a NumPy array.

    Raises:
      RefusedNameError: if the file names anything but the few names of a NumPy array.
      BadPickleError: if it is truncated, is no pickle, or holds more than plain data.
    """
    try:
        _check(data)
        return _Unpickler(io.BytesIO(data), encoding="latin1").load()
    except BadPickleError:
        raise
    except Exception as error:  # the documentation of pickle promises no complete list
        raise BadPickleError(f"not a well-formed pickle ({error})") from error


def _check(data: bytes) -> None:
    """Passes over the opcodes and raises BadPickleError at the first that is not plain data."""
    before, tuples = "", 0
    may_get: dict[int | None, bool] = {}  # by index in the memo
    for number, (opcode, argument, place) in enumerate(pickletools.genops(data)):
        name = opcode.name
        if name not in _ALLOWED:
            raise BadPickleError(f"pickle's {name} at byte {place} is not plain data")
        if number >= MAX_OPCODES:
            raise BadPickleError(f"more than {MAX_OPCODES} pickle opcodes")
        if name in _TUPLES and (tuples := tuples + 1) > MAX_TUPLES:
            raise BadPickleError(f"more than {MAX_TUPLES} tuples")
        if name in _PUTS:
            index = len(may_get) if argument is None else argument
            if index >= MAX_OPCODES:
                raise BadPickleError(f"pickle's {name} at byte {place} has a far too large index")
            may_get[index] = before in _LEAVES
        elif name in _GETS and not may_get.get(argument):
            raise BadPickleError(f"pickle's {name} at byte {place} uses a list or a tuple twice")
        before = name
