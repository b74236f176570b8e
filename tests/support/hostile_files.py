"""Files that a stranger could make: graphs without end, checkpoints whose checksums are right."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow.core.framework import graph_pb2
from tensorflow.core.protobuf import tensor_bundle_pb2

from support.crc import crc32c

# ---- graphs --------------------------------------------------------------------------------------


def nodes(*definitions: tuple[str, str, list[str]]) -> graph_pb2.GraphDef:
    graph = graph_pb2.GraphDef()
    for name, op, sources in definitions:
        graph.node.add(name=name, op=op, input=sources)
    return graph


def constant(graph: graph_pb2.GraphDef, name: str, value: Any) -> None:
    node = graph.node.add(name=name, op="Const")
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))


def squares(op: str, value: Any) -> graph_pb2.GraphDef:
    """x op x, 200 times over: a number or text that does not fit into the world."""
    graph = graph_pb2.GraphDef()
    constant(graph, "x0", value)
    for k in range(200):
        graph.node.add(name=f"x{k + 1}", op=op, input=[f"x{k}", f"x{k}"])
    return graph


def calls(breadth: int, depth: int, body: int) -> graph_pb2.GraphDef:
    """Functions that call functions: `breadth ** depth * body` nodes in some kilobytes."""
    graph = graph_pb2.GraphDef()
    for level in range(depth):
        function = graph.library.function.add()
        function.signature.name = f"f{level}"
        for k in range(breadth if level else body):
            function.node_def.add(name=f"n{k}", op=f"f{level - 1}" if level else "NoOp")
    for k in range(breadth):
        graph.node.add(name=f"call{k}", op=f"f{depth - 1}")
    return graph


def parameters(count: int) -> graph_pb2.GraphDef:
    """Calls of a function that is all parameters."""
    graph = graph_pb2.GraphDef()
    function = graph.library.function.add()
    function.signature.name = "f"
    for k in range(count):
        function.signature.input_arg.add(name=f"a{k}")
        graph.node.add(name=f"call{k}", op="f")
    return graph


def doubling(depth: int) -> graph_pb2.GraphDef:
    """Functions that call the one before twice, and the first of which takes square roots."""
    graph = nodes(("x", "Placeholder", []), ("y", f"f{depth - 1}", ["x"]))
    graph.node[0].attr["dtype"].type = tf.float32.as_datatype_enum
    for level in range(depth):
        function = graph.library.function.add()
        function.signature.name, op = f"f{level}", f"f{level - 1}" if level else "Sqrt"
        function.signature.input_arg.add(name="a")
        function.signature.output_arg.add(name="r")
        function.node_def.add(name="n0", op=op, input=["a"])
        function.node_def.add(name="n1", op=op, input=["n0:r:0"])
        function.ret["r"] = "n1:r:0"
    return graph


def recursion() -> graph_pb2.GraphDef:
    graph = nodes(("a", "f", []))
    function = graph.library.function.add()
    function.signature.name = "f"
    function.node_def.add(name="again", op="f")
    return graph


def case_of(value: Any, to: int) -> graph_pb2.GraphDef:
    """A number that is cast, and that chooses a branch."""
    graph = graph_pb2.GraphDef()
    constant(graph, "x", value)
    node = graph.node.add(name="cast", op="Cast", input=["x"])
    node.attr["DstT"].type = to
    case = graph.node.add(name="case", op="Case", input=["x"])
    for k in range(2):
        graph.library.function.add().signature.name = f"branch{k}"
        case.attr["branches"].list.func.add(name=f"branch{k}")
    return graph


HANDLES = tf.resource, tf.variant


def without_value(*types: int) -> graph_pb2.GraphDef:
    """A reduction along axes that are a constant of a type that has no value, or holds none."""
    graph = nodes(("x", "Placeholder", []))
    graph.node[0].attr["dtype"].type = tf.float32.as_datatype_enum
    for kind in types:
        for size in (0, 1, 2):
            axes = graph.node.add(name=f"axes{kind}_{size}", op="Const")
            tensor = axes.attr["value"].tensor
            tensor.dtype = kind
            tensor.tensor_shape.dim.add(size=size)
            graph.node.add(name=f"mean{kind}_{size}", op="Mean", input=["x", axes.name])
    return graph


ENDLESS = {
    "squares": squares("Mul", np.int32(7)),
    "powers": squares("Pow", np.int32(7)),
    "texts": squares("Add", b"bomb"),
    "sums": squares("AddV2", np.int64(2) ** 62),
    "calls": calls(60, 5, 60),
    "wide calls": calls(5_000, 1, 5_000),
    "parameters": parameters(3_000),
    "recursion": recursion(),
    "loop": nodes(("a", "Identity", ["b"]), ("b", "Identity", ["a"])),
    "negative output": nodes(("a", "NoOp", []), ("b", "Identity", ["a:-5"])),
    "no number": nodes(("a", "NoOp", []), ("b", "Identity", ["a:x"]), ("c", "Add", ["a:o:y"])),
    "huge number": nodes(("a", "NoOp", []), ("b", "Identity", ["a:" + "9" * 5_000])),
    "not a number": case_of(np.float32(np.nan), tf.int32.as_datatype_enum),
    "infinity": case_of(np.float32(np.inf), tf.int32.as_datatype_enum),
    "no value": without_value(*(kind.as_datatype_enum for kind in (tf.string, *HANDLES)), 120),
    "no type": case_of(np.float32(1), 9_999),
}

# ---- checkpoints ---------------------------------------------------------------------------------


def varint(number: int) -> bytes:
    low, rest = number & 127, number >> 7
    return bytes([low | 128]) + varint(rest) if rest else bytes([low])


def block(entries: list[tuple[bytes, bytes]], common: int = 0) -> bytes:
    """A block of a table with its checksum.

    Args:
      entries: keys and values.
      common: bytes that all keys from the second on have in common, and that are not repeated.
    """
    data = b""
    for number, (key, value) in enumerate(entries):
        cut = common if number > 1 else 0
        data += varint(cut) + varint(len(key) - cut) + varint(len(value)) + key[cut:] + value
    data += struct.pack("<II", 0, 1) + b"\0"
    crc = crc32c(data)
    return data + struct.pack("<I", ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) % 2**32)


def table(entries: list[tuple[bytes, bytes]], *, common: int = 0, times: int = 1) -> bytes:
    """An index with right checksums, as a stranger could make it; its block listed `times`."""
    first, empty = block(entries, common), block([])
    handle = varint(0) + varint(len(first) - 5)
    index = block([(b"%09d" % k, handle) for k in range(times)])
    footer = varint(len(first)) + varint(len(empty) - 5)
    footer += varint(len(first) + len(empty)) + varint(len(index) - 5)
    magic = struct.pack("<Q", 0xDB4775248B80FB57)
    return first + empty + index + footer + bytes(40 - len(footer)) + magic


def entry(*dims: int, **fields: Any) -> bytes:
    value = tensor_bundle_pb2.BundleEntryProto(dtype=1, **fields)
    for size in dims:
        value.shape.dim.add(size=size)
    return value.SerializeToString()


HEADER = (b"", tensor_bundle_pb2.BundleHeaderProto(num_shards=1).SerializeToString())
LONG = b"a" * 20_000


def one(value: bytes, **options: Any) -> bytes:
    return table([HEADER, (b"bn/gamma", value)], **options)


FORGED = {
    "impossible shape": one(entry(1 << 62, 4, 0)),
    "ten thousand dimensions": one(entry(*[1 << 61] * 10_000)),
    "exabytes": one(entry(1 << 59, size=1 << 61)),
    "beyond its file": one(entry(5, offset=1 << 40, size=20)),
    "another shard": one(entry(0, shard_id=7)),
    "a million shards": table([(b"", b"\x08\x80\x89\x7a"), (b"bn/gamma", entry(0))]),
    "no header": table([(b"bn/gamma", entry(0))]),
    "one block again and again": one(entry(0, size=0), times=2_000),
    "one long name again and again": table(
        [HEADER, *[(LONG + b"%05d" % k, entry(0)) for k in range(5_000)]], common=len(LONG)
    ),
}


def write_checkpoint(folder: Path, index: bytes) -> str:
    (folder / "forged.index").write_bytes(index)
    (folder / "forged.data-00000-of-00001").write_bytes(b"")
    return str(folder / "forged")
