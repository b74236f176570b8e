"""Reads pickles as plain data: nothing a file names is ever imported or called.

A CIFAR-10 file is a dict of text, lists of small ints and one byte array. Python's own
unpickler runs a stack machine that can call anything; even with `find_class` overridden it
lets a file of ten bytes ask for gigabytes (LONG_BINPUT grows the memo to the index given) and
holds the pixels three times over. This is the same machine with the thirty-odd opcodes such a
file needs, names that are compared and never looked up, and a bound on the work.
"""

from __future__ import annotations

import pickle
import pickletools
from collections.abc import Callable
from typing import ClassVar, Final, NamedTuple

# A batch takes about 10,000 opcodes for its labels and 20,000 for its file names. Every opcode
# makes at most one small object, so this also bounds the memory at some 10 MB.
MAX_OPCODES: Final = 100_000


class BadPickleError(ValueError):
    """The file is not a pickle of plain data; the message says what was met, in a clause."""


class RefusedNameError(BadPickleError):
    """The file names something that no CIFAR-10 file needs."""


class Array(NamedTuple):
    """An array as it is stored; nothing about it has been checked.

    Attributes:
      shape: the shape the file claims.
      dtype: NumPy's short type string, e.g. "u1" for uint8.
      order: "C" (rows first) or "F" (columns first).
      data: the elements' bytes, a view of the file's; None where the file holds no bytes.
    """

    shape: object
    dtype: str
    order: str
    data: memoryview | None


class _Name(NamedTuple):
    """A name that is admitted: a token which REDUCE recognises."""

    role: str


class _Slot:
    """An object under construction: REDUCE makes it empty, BUILD fills it."""

    __slots__ = ("value",)

    def __init__(self, value: Array | str | None) -> None:
        self.value = value


# What NumPy 1 and 2 write for a uint8 array: under protocol 2 (Python 2, or today's protocol 2
# with the bytes spelt as Latin-1 text), 3, 4 and 5.
_ADMITTED: Final = {
    "numpy.core.multiarray._reconstruct": _Name("reconstruct"),
    "numpy._core.multiarray._reconstruct": _Name("reconstruct"),
    "numpy.core.numeric._frombuffer": _Name("frombuffer"),
    "numpy._core.numeric._frombuffer": _Name("frombuffer"),
    "numpy.ndarray": _Name("ndarray"),
    "numpy.dtype": _Name("dtype"),
    "_codecs.encode": _Name("encode"),
}
_OPCODE_NAMES: Final = {op.code.encode("latin-1"): op.name for op in pickletools.opcodes}


def loads(data: bytes) -> object:
    """Reads one pickle.

    Args:
      data: the whole file. Arrays in the answer are views of it, not copies.

    Returns:
      None, bool, int, str, tuple, list, dict with str keys, memoryview (byte strings), and
      Array for a NumPy array.

    Raises:
      RefusedNameError: if the file names anything but the few names of a NumPy array.
      BadPickleError: if it is truncated, is no pickle, or holds more than plain data.
    """
    try:
        return _finished(_Machine(data).run())
    except BadPickleError:
        raise
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise BadPickleError(f"not a well-formed pickle ({error})") from error


def _finished(value: object) -> object:
    """Puts arrays in the place of the slots they were built in (in a dict's values only)."""
    if not isinstance(value, dict):
        return value
    return {k: v.value if isinstance(v, _Slot) else v for k, v in value.items()}


class _Machine:
    """Pickle's stack machine for plain data and NumPy arrays."""

    def __init__(self, data: bytes) -> None:
        self.data = memoryview(data)
        self.at = 0
        self.stack: list[object] = []
        self.outer: list[list[object]] = []  # the stacks below the marks
        self.memo: dict[int, object] = {}  # a dict: an index costs what one entry costs
        self.encoded = 0  # bytes made by "encode", the one call whose result is not small

    def run(self) -> object:
        if bytes(self.data[:1]) != pickle.PROTO:
            raise BadPickleError("not a pickle of protocol 2 or later")
        for _ in range(MAX_OPCODES):
            opcode = bytes(self.take(1))
            if opcode == pickle.STOP:
                return self.stack.pop()
            step = self.steps.get(opcode)
            if step is None:
                what = _OPCODE_NAMES.get(opcode, f"{opcode!r}, which is no opcode,")
                raise BadPickleError(f"pickle's {what} at byte {self.at - 1} is not plain data")
            step(self)
        raise BadPickleError(f"more than {MAX_OPCODES} pickle opcodes")

    def take(self, count: int) -> memoryview:
        """The next count bytes, as a view."""
        if count > len(self.data) - self.at:
            raise BadPickleError(f"truncated at byte {len(self.data)}")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, width: int, *, signed: bool = False) -> int:
        return int.from_bytes(self.take(width), "little", signed=signed)

    def line(self) -> str:
        """The text up to the next newline (names are short; a longer line is refused)."""
        window = bytes(self.data[self.at : self.at + 256])
        length = window.index(b"\n")
        self.at += length + 1
        return window[:length].decode("ascii")

    def push(self, value: object) -> None:
        self.stack.append(value)

    def mark(self) -> None:
        self.outer.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[object]:
        items, self.stack = self.stack, self.outer.pop()
        return items

    def push_tuple(self, count: int) -> None:
        items = [self.stack.pop() for _ in range(count)]
        self.push(tuple(reversed(items)))

    def append(self, items: list[object]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise BadPickleError("items appended to what is no list")
        target.extend(items)

    def set_items(self, items: list[object]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise BadPickleError("items set in what is no dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str):  # a nested tuple could take for ever to hash
                raise BadPickleError("a dict key that is no text")
            target[key] = value

    def name(self, module: object, attribute: object) -> None:
        if not isinstance(module, str) or not isinstance(attribute, str):
            raise BadPickleError("a name that is no text")
        full = f"{module}.{attribute}"
        if full not in _ADMITTED:
            # repr, cut short: the file chose these characters, and they go to a terminal
            raise RefusedNameError(f"names {full[:80]!r}")
        self.push(_ADMITTED[full])

    def stack_name(self) -> None:
        attribute, module = self.stack.pop(), self.stack.pop()
        self.name(module, attribute)

    def reduce(self) -> None:
        arguments, name = self.stack.pop(), self.stack.pop()
        if not isinstance(name, _Name) or not isinstance(arguments, tuple):
            raise BadPickleError("a call of what is no name")
        if name.role == "encode":
            self.push(self.encode(*arguments))
        else:
            self.push(_reduced(name.role, arguments))

    def encode(self, text: object, encoding: object) -> memoryview:
        """The bytes that protocol 2 has to spell as text."""
        if not isinstance(text, str) or encoding != "latin1":
            raise BadPickleError("a call of encode with other arguments than an array's")
        self.encoded += len(text)
        if self.encoded > len(self.data):  # one text taken from the memo again and again
            raise BadPickleError("more bytes encoded than the file holds")
        return memoryview(text.encode("latin-1"))

    def build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if not isinstance(target, _Slot) or not isinstance(state, tuple):
            raise BadPickleError("state for what is no array")
        if target.value is None:  # an array; a dtype's state adds nothing for one-byte elements
            _version, shape, dtype, is_fortran, data = state
            target.value = _array(data, dtype, shape, "F" if is_fortran else "C")

    steps: ClassVar[dict[bytes, Callable[[_Machine], None]]] = {
        pickle.PROTO: lambda m: _discard(m.take(1)),
        pickle.FRAME: lambda m: _discard(m.take(8)),
        pickle.MARK: mark,
        pickle.NONE: lambda m: m.push(None),
        pickle.NEWTRUE: lambda m: m.push(True),
        pickle.NEWFALSE: lambda m: m.push(False),
        pickle.BININT1: lambda m: m.push(m.number(1)),
        pickle.BININT2: lambda m: m.push(m.number(2)),
        pickle.BININT: lambda m: m.push(m.number(4, signed=True)),
        # Python 2's str is text or bytes. Short ones are the keys, so text; the long one is the
        # pixels and stays a view.
        pickle.SHORT_BINSTRING: lambda m: m.push(str(m.take(m.number(1)), "latin-1")),
        pickle.BINSTRING: lambda m: m.push(m.take(m.number(4))),
        pickle.SHORT_BINUNICODE: lambda m: m.push(str(m.take(m.number(1)), "utf-8")),
        pickle.BINUNICODE: lambda m: m.push(str(m.take(m.number(4)), "utf-8")),
        pickle.SHORT_BINBYTES: lambda m: m.push(m.take(m.number(1))),
        pickle.BINBYTES: lambda m: m.push(m.take(m.number(4))),
        pickle.BINBYTES8: lambda m: m.push(m.take(m.number(8))),
        pickle.BYTEARRAY8: lambda m: m.push(m.take(m.number(8))),
        pickle.EMPTY_TUPLE: lambda m: m.push(()),
        pickle.TUPLE1: lambda m: m.push_tuple(1),
        pickle.TUPLE2: lambda m: m.push_tuple(2),
        pickle.TUPLE3: lambda m: m.push_tuple(3),
        pickle.TUPLE: lambda m: m.push(tuple(m.since_mark())),
        pickle.EMPTY_LIST: lambda m: m.push([]),
        pickle.APPEND: lambda m: m.append([m.stack.pop()]),
        pickle.APPENDS: lambda m: m.append(m.since_mark()),
        pickle.EMPTY_DICT: lambda m: m.push({}),
        pickle.SETITEM: lambda m: m.set_items([m.stack.pop(-2), m.stack.pop()]),
        pickle.SETITEMS: lambda m: m.set_items(m.since_mark()),
        pickle.BINPUT: lambda m: m.memo.update({m.number(1): m.stack[-1]}),
        pickle.LONG_BINPUT: lambda m: m.memo.update({m.number(4): m.stack[-1]}),
        pickle.MEMOIZE: lambda m: m.memo.update({len(m.memo): m.stack[-1]}),
        pickle.BINGET: lambda m: m.push(m.memo[m.number(1)]),
        pickle.LONG_BINGET: lambda m: m.push(m.memo[m.number(4)]),
        pickle.GLOBAL: lambda m: m.name(m.line(), m.line()),
        pickle.STACK_GLOBAL: stack_name,
        pickle.REDUCE: reduce,
        pickle.BUILD: build,
    }


def _discard(_view: memoryview) -> None:
    """Ends a step that only moves on (a frame's length, the protocol's number)."""


def _reduced(role: str, arguments: tuple[object, ...]) -> object:
    """What an admitted name would have made of its arguments, as plain data."""
    if role == "reconstruct":  # (ndarray, a shape to start with, a type): all told by BUILD
        return _Slot(None)
    if role == "dtype" and isinstance(arguments[0], str):
        return _Slot(arguments[0])
    if role == "frombuffer":
        data, dtype, shape, order = arguments
        return _Slot(_array(data, dtype, shape, "F" if order == "F" else "C"))
    raise BadPickleError(f"a call of {role} with other arguments than an array's")


def _array(data: object, dtype: object, shape: object, order: str) -> Array:
    """The parts of an array, as the file gives them."""
    if not isinstance(dtype, _Slot) or not isinstance(dtype.value, str):
        raise BadPickleError("an array without a dtype")
    return Array(shape, dtype.value, order, data if isinstance(data, memoryview) else None)
