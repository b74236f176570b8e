"""Reads the key-value table that TensorFlow keeps a checkpoint's index in (no TensorFlow).

The format is LevelDB's: data blocks of prefix-compressed entries, an index block that points at
them, a footer of 48 bytes. https://github.com/google/leveldb/blob/main/doc/table_format.md
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from alexnet_tf1.files import open_regular

_FOOTER = 48
_MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)
_TRAILER = 5  # type of compression, CRC-32C
_MAX_BLOCK = 1 << 28
_MAX_SPELT = 64  # bytes of keys that a byte of a block may stand for, names of 1000 being 25
_MAX_VERIFIED = 1 << 24  # bytes; of this project's checkpoints the index takes 3 kB


# What each byte adds to a CRC-32C (Castagnoli, reflected polynomial 0x82F63B78).
_CRC_TABLE = list(range(256))
for _ in range(8):
    _CRC_TABLE = [value >> 1 ^ (0x82F63B78 if value & 1 else 0) for value in _CRC_TABLE]


class DamagedError(Exception):
    """The table cannot be read; the text says why, without naming the file."""


def check_magic(path: Path) -> None:
    """Looks at the last bytes of a file.

    Raises:
      DamagedError: if it is no such table.
      OSError: if it cannot be opened.
    """
    with open_regular(path) as file:
        _footer(file)


def entries(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yields the keys and values of a table in order.

    Checksums are left to `verify`, and to TensorFlow, which looks at them as it reads.

    Raises:
      DamagedError: if it is no such table.
      OSError: if it cannot be read.
    """
    with open_regular(path) as file:
        left = file.seek(0, 2)
        for _, handle in _block(file, *_footer(file)):
            offset, size, _ = _handle(handle, 0)
            left -= size
            if left < 0:
                raise DamagedError("its index points at the same bytes again and again")
            yield from _block(file, offset, size)


def verify(path: Path) -> None:
    """Checks every byte of a table: each block against its checksum, and the footer.

    In Python, some milliseconds for an index of 10 kB.

    Raises:
      DamagedError: if a byte is not what was written.
      OSError: if it cannot be read.
    """
    with open_regular(path) as file:
        length = file.seek(0, 2)
        if length > _MAX_VERIFIED:
            raise DamagedError(f"its index is too large to be checked, {length} bytes")
        index = _footer(file)
        file.seek(0)
        table = file.read()
        _check_block(table, *index)  # before what it points at is believed
        blocks = [_handle(handle, 0)[:2] for _, handle in _block(file, *index)]
    footer = table[-_FOOTER:]
    meta_offset, meta_size, position = _handle(footer, 0)
    if any(footer[_handle(footer, position)[2] : -len(_MAGIC)]):
        raise DamagedError("its index does not end as one does")
    for offset, size in [(meta_offset, meta_size), *blocks]:
        _check_block(table, offset, size)


def _check_block(table: bytes, offset: int, size: int) -> None:
    """Compares a block and its type with the checksum that follows them."""
    end = offset + size + 1
    if end + 4 > len(table):
        raise DamagedError("its index points outside itself")
    crc = 0xFFFFFFFF
    for byte in table[offset:end]:
        crc = _CRC_TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    # Stored rotated and shifted, as LevelDB does: https://github.com/google/leveldb/blob/main/util/crc32c.h
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    if masked != struct.unpack_from("<I", table, end)[0]:
        raise DamagedError(f"its index does not match its checksum at byte {offset}")


def _footer(file: BinaryIO) -> tuple[int, int]:
    """The offset and size, in bytes, of the index block."""
    length = file.seek(0, 2)
    if length < _FOOTER:
        raise DamagedError(f"it is too short, {length} bytes")
    file.seek(length - _FOOTER)
    footer = file.read(_FOOTER)
    if not footer.endswith(_MAGIC):
        raise DamagedError("it does not end as one does")
    _, _, position = _handle(footer, 0)  # of the metaindex block, unused here
    return _handle(footer, position)[:2]


def _handle(data: bytes, position: int) -> tuple[int, int, int]:
    """Reads where a block begins, its size without the trailer, and where the next thing begins."""
    offset, position = _varint(data, position)
    size, position = _varint(data, position)
    return offset, size, position


def _block(file: BinaryIO, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    if size > min(_MAX_BLOCK, file.seek(0, 2)):  # nothing is allocated for bytes that are not there
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
    spelt = _MAX_SPELT * size + (1 << 16)
    while position < end:
        shared, position = _varint(block, position)
        unshared, position = _varint(block, position)
        length, position = _varint(block, position)
        if shared > len(key) or position + unshared + length > end:
            raise DamagedError("its index points outside itself")
        key = key[:shared] + block[position : position + unshared]
        position += unshared
        spelt -= len(key)
        if spelt < 0:
            raise DamagedError("its index repeats a long name again and again")
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
