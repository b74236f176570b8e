"""Checks and opens anybody's checkpoint, without a graph.

TensorFlow's native reader trusts an index whose checksums are right: a file of another kind, or
one made by a stranger, ends the whole process in a CHECK. So the index of a V2 checkpoint (an
SSTable of BundleEntryProto) is read and validated here first, and only then opened natively.
"""

import math
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow.compat.v1 as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import tensor_bundle_pb2

from alexnet_tf1.checkpoint import sstable, v1
from alexnet_tf1.checkpoint.find import resolve
from alexnet_tf1.checkpoint.pattern import refuse_pattern
from alexnet_tf1.checkpoint.pointer import refuse_pointer
from alexnet_tf1.checkpoint.sstable import DamagedError
from alexnet_tf1.errors import UserError
from alexnet_tf1.files import open_regular

_MAX_RANK = 254  # of a tensorflow::TensorShape
_TAKE_ANOTHER = "copy it again or give another checkpoint"


class Variable(NamedTuple):
    """The dtype (a tf.DType) and the static shape of one variable, as the index gives them."""

    dtype: Any
    shape: tuple[int, ...]


class Checkpoint:
    """One checkpoint, opened for reading; nothing of its tensors is read until asked for.

    Attributes:
      prefix: what `tf.train.Saver.restore` takes.
      variables: by name, in the order of the names.
      missing: the data file that is not there, if names had to suffice; nothing can be read then.
    """

    def __init__(self, path: str | os.PathLike[str], *, names_suffice: bool = False) -> None:
        """Opens the checkpoint that `path` stands for, see `find.resolve`.

        Args:
          path: what stands for it.
          names_suffice: whether an index without its data is of use too.

        Raises:
          UserError: if there is none, or it is damaged or cannot be read.
        """
        self.prefix = resolve(path)
        self.missing: str | None = None
        self._reader: Any = None
        self._arrays: dict[str, npt.NDArray[Any]] = {}
        index = Path(f"{self.prefix}.index")
        try:
            if index.is_file():
                refuse_pattern(self.prefix)
                self._open(index, names_suffice)
                return
            refuse_pointer(self.prefix)
            sstable.check_magic(Path(self.prefix))
            content = v1.read(self.prefix)
            self._arrays = content.arrays
            self.variables = {
                name: Variable(tf.as_dtype(dtype), shape)
                for name, (dtype, shape) in content.variables.items()
            }
        except OSError as error:
            raise UserError(f"{self.prefix}: {error.strerror or error}: {error.filename}") from None
        except DamagedError as error:
            raise UserError(
                f"{self.prefix}: not a checkpoint, or damaged: {error}; {_TAKE_ANOTHER}"
            ) from None

    def _open(self, index: Path, names_suffice: bool) -> None:
        """Opens a checkpoint of the second format."""
        try:
            self.variables = _validated_index(index)
            self._reader = _native(tf.train.NewCheckpointReader, self.prefix)
        except FileNotFoundError as error:
            if not names_suffice:
                raise
            self.missing = str(error.filename)
            self.variables = _validated_index(index, has_data=False)

    def read(self, name: str) -> npt.NDArray[Any]:
        """Reads one variable.

        Raises:
          UserError: if its bytes do not match their checksum.
        """
        try:
            if self._reader is not None:
                return np.asarray(_native(self._reader.get_tensor, name))
            if name not in self._arrays:
                self._arrays |= v1.read(self.prefix, name).arrays
            return self._arrays[name]
        except DamagedError as error:
            raise UserError(
                f"{self.prefix}: damaged, {name} cannot be read: {error}; {_TAKE_ANOTHER}"
            ) from None


def verify(prefix: str) -> None:
    """Checks every byte of a V2 checkpoint that a restore reads, one tensor at a time.

    TensorFlow's reader compares each tensor with its CRC-32C as it reads it, at some GB a second.

    Args:
      prefix: as `tf.train.Saver.restore` takes it.

    Raises:
      DamagedError: if a byte is not what was written.
      OSError: if a file is missing or cannot be read.
      UserError: if TensorFlow cannot take this path.
    """
    refuse_pattern(prefix)
    index = Path(f"{prefix}.index")
    if index.exists() and not index.is_file():
        raise DamagedError("its index is not a file")
    sstable.verify(index)
    variables = _validated_index(index)
    reader = _native(tf.train.NewCheckpointReader, prefix)
    for name in variables:
        try:
            _native(reader.get_tensor, name)
        except DamagedError as error:
            raise DamagedError(f"{name} cannot be read: {error}") from None


def _native(call: Any, *arguments: str) -> Any:
    """Calls TensorFlow's reader; whatever it raises becomes `DamagedError`.

    It raises nearly everything: OpError, IndexError, UnicodeDecodeError, TypeError, RuntimeError.
    """
    try:
        return call(*arguments)
    except (tf.errors.OpError, RuntimeError, LookupError, ValueError, TypeError) as error:
        text = str(getattr(error, "message", error)).split("\n", 1)[0]
        raise DamagedError(text) from None


def _validated_index(path: Path, *, has_data: bool = True) -> dict[str, Variable]:
    """Reads a V2 index; DamagedError if the native reader must not see this file."""
    refuse_pointer(path)
    table = sstable.entries(path)
    key, value = next(table, (None, b""))
    if key != b"":
        raise DamagedError(f"its index {'is empty' if key is None else 'has no header'}")
    header = _parsed(tensor_bundle_pb2.BundleHeaderProto, value)
    sizes = _shard_sizes(path, header.num_shards) if has_data else [1 << 62] * header.num_shards
    variables = {}
    for key, value in table:
        variable = _validated_entry(_parsed(tensor_bundle_pb2.BundleEntryProto, value), sizes)
        # A partitioned variable has an entry of its own, and one for each slice under a key
        # that begins with a zero byte.
        if not key.startswith(b"\0"):
            try:
                variables[key.decode()] = variable
            except UnicodeDecodeError:
                raise DamagedError("its index holds a name that is not text") from None
    return variables


def _shard_sizes(index: Path, count: int) -> list[int]:
    """Opens each data file, so that a missing or locked one is named here, and measures it."""
    if not 1 <= count <= 100_000:
        raise DamagedError(f"its index speaks of {count} data files")
    sizes = []
    for shard in range(count):
        name = f"{index.name.removesuffix('.index')}.data-{shard:05d}-of-{count:05d}"
        refuse_pointer(index.parent / name)
        with open_regular(index.parent / name) as file:
            sizes.append(os.fstat(file.fileno()).st_size)
    return sizes


def _validated_entry(entry: Any, sizes: list[int]) -> Variable:
    try:
        dtype = tf.as_dtype(entry.dtype)
        known = dtype == dtype.base_dtype  # nobody saves a reference
    except TypeError:
        known = False
    if not known:
        raise DamagedError(f"its index holds an unknown dtype, {entry.dtype}")
    shape = tuple(dim.size for dim in entry.shape.dim[: _MAX_RANK + 1])
    # Dimensions of 0 do not help: TensorFlow's reader multiplies the others, and ends the process.
    most = math.prod(max(size, 1) for size in shape)
    negative = min(shape, default=0) < 0
    if entry.shape.unknown_rank or len(shape) > _MAX_RANK or negative or most >= 1 << 62:
        raise DamagedError(f"its index holds an impossible shape, {shape}")
    elements = math.prod(shape)
    if entry.slices:  # the bytes are in the slices' own entries
        fits = elements * max(dtype.size, 1) <= sum(sizes)
        if not fits or not all(_lies_in(piece, shape) for piece in entry.slices):
            raise DamagedError(f"its index cuts {dtype.name} {shape} into wrong slices")
        return Variable(dtype, shape)
    if not 0 <= entry.shard_id < len(sizes) or min(entry.offset, entry.size) < 0:
        raise DamagedError("its index points outside its data files")
    if entry.offset + entry.size > sizes[entry.shard_id]:
        raise DamagedError(
            f"data file {entry.shard_id} is truncated: {sizes[entry.shard_id]} bytes, at least "
            f"{entry.offset + entry.size} expected"
        )
    is_text = dtype in (tf.string, tf.resource, tf.variant)  # of no fixed size
    if elements > entry.size if is_text else elements * dtype.size != entry.size:
        raise DamagedError(f"its index gives {entry.size} bytes for {dtype.name} {shape}")
    return Variable(dtype, shape)


def _lies_in(piece: Any, shape: tuple[int, ...]) -> bool:
    """Tells whether a slice lies in a shape; an extent without a length is the whole dimension."""
    return len(piece.extent) == len(shape) and all(
        0 <= extent.start <= extent.start + extent.length <= size
        and extent.length >= 0
        and (extent.HasField("length") or extent.start == 0)
        for extent, size in zip(piece.extent, shape, strict=True)
    )


def _parsed(kind: Any, value: bytes) -> Any:
    try:
        return kind.FromString(value)
    except DecodeError:
        raise DamagedError("its index is not one of a checkpoint") from None
