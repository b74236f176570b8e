"""Reads the key-value table that TensorFlow keeps a checkpoint's index in (no TensorFlow).

The format is LevelDB's: data blocks of prefix-compressed entries, an index block that points at
them, a footer of 48 bytes. https://github.com/google/leveldb/blob/main/doc/table_format.md
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_FOOTER = 48
_MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)
_TRAILER = 5  # type of compression, CRC-32C
_MAX_BLOCK = 1 << 28


class DamagedError(Exception):
    """The table cannot be read; the text says why, without naming the file."""


def check_magic(path: Path) -> None:
    """Looks at the last bytes of a file.

    Raises:
      DamagedError: if it is no such table.
      OSError: if it cannot be opened.
    """
    with path.open("rb") as file:
        _footer(file)


def entries(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yields the keys and values of a table in order.

    Checksums are left to TensorFlow, which verifies them when it opens the file.

    Raises:
      DamagedError: if it is no such table.
      OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        offset, size = _footer(file)
        for _, handle in _block(file, offset, size):
            data_offset, position = _varint(handle, 0)
            data_size, _ = _varint(handle, position)
            yield from _block(file, data_offset, data_size)


def _footer(file: BinaryIO) -> tuple[int, int]:
    """The offset and size, in bytes, of the index block."""
    length = file.seek(0, 2)
    if length < _FOOTER:
        raise DamagedError(f"it is too short, {length} bytes")
    file.seek(length - _FOOTER)
    footer = file.read(_FOOTER)
    if not footer.endswith(_MAGIC):
        raise DamagedError("it does not end as one does")
    position = 0
    for _ in range(2):  # the handle of the metaindex block, unused here
        _, position = _varint(footer, position)
    offset, position = _varint(footer, position)
    size, _ = _varint(footer, position)
    return offset, size


def _block(file: BinaryIO, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    if size > _MAX_BLOCK:
        raise DamagedError("its index points outside itself")
    file.seek(min(offset, 1 << 62))
    block = file.read(size + _TRAILER)
    if len(block) < size + _TRAILER or size < 4:
        raise DamagedError("its index points outside itself")
    if block[size] != 0:
        raise DamagedError("its index is compressed; save it again with a current TensorFlow")
    (restarts,) = struct.unpack_from("<I", block, size - 4)
    end = size - 4 - 4 * restarts
    if end < 0:
        raise DamagedError("its index points outside itself")
    key, position = b"", 0
    while position < end:
        shared, position = _varint(block, position)
        unshared, position = _varint(block, position)
        length, position = _varint(block, position)
        if shared > len(key) or position + unshared + length > end:
            raise DamagedError("its index points outside itself")
        key = key[:shared] + block[position : position + unshared]
        position += unshared
        yield key, block[position : position + length]
        position += length


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """An unsigned integer of seven bits a byte, lowest first, and where the next thing begins."""
    value = shift = 0
    while True:
        if position >= len(data) or shift > 63:
            raise DamagedError("its index points outside itself")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
