"""Reads constants of a graph as Python values, and computes with scalars."""

import math
import operator
from collections.abc import Callable
from typing import Any

import tensorflow.compat.v1 as tf

Scalar = bool | int | float | str

_VALUE_FIELDS = "float_val int_val bool_val int64_val double_val half_val string_val".split()
_SMALL = 16  # elements; axes and permutations are shorter
_LARGEST = 1 << 64  # no integer of TensorFlow's is larger; a forged graph could square without end
_LONGEST = 4_096  # characters of a text, for the same reason


def scalar(proto: Any) -> Scalar | None:
    """The one value that all elements of a TensorProto share, if it is written as one."""
    for name in _VALUE_FIELDS:
        values = getattr(proto, name)
        if len(values) > 1:
            return None
        if values and name == "half_val":
            break
        if values:
            value: Scalar = values[0].decode("latin1") if name == "string_val" else values[0]
            return value
    dims = [d.size for d in proto.tensor_shape.dim]
    if math.prod(dims) == 1 and (proto.tensor_content or not dims):
        array = _array(proto)
        if array is not None:
            item = array.item()
            return item if isinstance(item, (bool, int, float)) else None
    if not proto.tensor_content and proto.dtype in (tf.float32, tf.int32, tf.bool, tf.int64):
        return 0 if 0 not in dims else None  # a tensor of zeros may list no value at all
    return None


def vector(proto: Any) -> list[int] | None:
    """A short integer tensor as a list; a scalar as a list of one."""
    if math.prod(d.size for d in proto.tensor_shape.dim) > _SMALL:
        return None
    array = _array(proto)
    if array is None or array.dtype.kind not in "iu":
        return None
    return [int(v) for v in array.reshape(-1)]


def _array(proto: Any) -> Any:
    try:
        return tf.make_ndarray(proto)
    except (TypeError, ValueError, LookupError):  # such a constant has no value, or no such type
        return None


_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "LogicalAnd": lambda a, b: bool(a and b),
    "LogicalOr": lambda a, b: bool(a or b),
    "Equal": operator.eq,
    "NotEqual": operator.ne,
    "Greater": operator.gt,
    "GreaterEqual": operator.ge,
    "Less": operator.lt,
    "LessEqual": operator.le,
    "Add": operator.add,
    "AddV2": operator.add,
    "Sub": operator.sub,
    "Mul": operator.mul,
    "RealDiv": lambda a, b: a / b if b else None,
    "Div": lambda a, b: a / b if b else None,
    "Maximum": max,
    "Minimum": min,
    "Pow": lambda a, b: float(a) ** b if a > 0 else None,  # a whole number's could fill memory
}
_UNARY: dict[str, Callable[[Any], Any]] = {
    "LogicalNot": lambda a: not a,
    "Neg": operator.neg,
    "ZerosLike": lambda a: 0,
    "OnesLike": lambda a: 1,
    "Round": round,
    "Floor": math.floor,
    "Any": bool,
    "All": bool,
}
FOLDED_OPS = frozenset(_BINARY) | frozenset(_UNARY)


def apply(op: str, operands: list[Scalar]) -> Scalar | None:
    """Computes the operation on known scalars; None where that cannot be done."""
    value = None
    try:
        if len(operands) == 2 and op in _BINARY:
            value = _BINARY[op](*operands)
        elif op in _UNARY:
            value = _UNARY[op](operands[0])
    except (TypeError, ValueError, ArithmeticError):
        return None
    too_large = (isinstance(value, int) and abs(value) > _LARGEST) or (
        isinstance(value, str) and len(value) > _LONGEST
    )
    return value if isinstance(value, (int, float, str)) and not too_large else None


def cast(value: Scalar, dtype: int) -> Scalar | None:
    """The value as tf.cast to the numbered data type gives it."""
    if isinstance(value, str):
        return None
    try:
        kind = tf.as_dtype(dtype)
        if kind.is_bool:
            return bool(value)
        if kind.is_integer:
            return int(value)
        return float(value) if kind.is_floating else None
    except (TypeError, ValueError, OverflowError):  # no such type; NaN or infinity to an integer
        return None
