"""Refuses a graph whose operations reach out of it: to files, other machines, Python, the process.

The two tables list all such operations of TensorFlow 2.21; a test compares them with its registry.
"""

from collections.abc import Callable, Container, Iterator
from typing import Any

from tensorflow.python.framework import op_def_registry

from alexnet_tf1.errors import UserError

# Refused wherever they are in the graph or in its functions.
ANYWHERE = {
    "runs Python": "PyFunc PyFuncStateless EagerPyFunc",
    "writes files": """WriteFile SaveDataset SaveDatasetV2 DistributedSave DumpTensor PrintV2
        DatasetToTFRecord ExperimentalDatasetToTFRecord CalibrationStatisticsSaver
        CreateSummaryFileWriter CreateSummaryDbWriter DebugIdentity DebugIdentityV2 DebugIdentityV3
        DebugNanCount DebugNumericSummary""",
    "talks to other machines": """RpcServer RpcServerStart RpcServerRegister RpcClient RpcCall
        RpcCheckStatus RpcGetValue""",
    "changes or ends this process": "Abort FileSystemSetConfiguration WorkerHeartbeat",
    "runs code that the graph does not show": """DatasetFromGraph DeserializeIterator
        MlirPassthroughOp _XlaHostComputeMlir _TPUCompileMlir XlaCallModule XlaCustomCall
        XlaCustomCallV2""",
}
# Refused where they would run. Most training graphs hold some of these, in their input pipeline or
# their Saver, and neither is run here.
WHERE_RUN = {
    "reads files": """ReadFile MatchingFiles MatchingFilesDataset ExperimentalMatchingFilesDataset
        WholeFileReader WholeFileReaderV2 TextLineReader TextLineReaderV2 TFRecordReader
        TFRecordReaderV2 FixedLengthRecordReader FixedLengthRecordReaderV2 LMDBReader RecordInput
        TextLineDataset TFRecordDataset TFRecordDatasetV2 FixedLengthRecordDataset
        FixedLengthRecordDatasetV2 CSVDataset CSVDatasetV2 ExperimentalCSVDataset LMDBDataset
        ExperimentalLMDBDataset SqlDataset ExperimentalSqlDataset LoadDataset
        ListSnapshotChunksDataset SnapshotChunkDataset SnapshotDatasetReader
        SnapshotNestedDatasetReader InitializeTableFromTextFile InitializeTableFromTextFileV2
        GenerateVocabRemapping FixedUnigramCandidateSampler Skipgram ImmutableConst DecodeProtoV2
        EncodeProto Restore RestoreSlice RestoreV2 DTensorRestoreV2 LoadAndRemapMatrix""",
    "writes files": """Save SaveSlices SaveV2 MergeV2Checkpoints CacheDataset CacheDatasetV2
        SnapshotDataset SnapshotDatasetV2""",
    "talks to other machines": """RemoteCall DataServiceDataset DataServiceDatasetV2
        DataServiceDatasetV3 DataServiceDatasetV4 RegisterDataset RegisterDatasetV2""",
}


def _text(node: Any, name: str) -> bytes:
    return bytes(node.attr[name].s) if name in node.attr else b""


def _debugs_to(node: Any) -> bool:
    return "debug_urls" in node.attr and len(node.attr["debug_urls"].list.s) > 0


def _descriptor_is_a_file(node: Any) -> bool:
    source = _text(node, "descriptor_source")
    return source != b"" and not source.startswith((b"local://", b"bytes://"))


# Of an operation that reaches out only with some settings: whether it does with those of a node.
_IF: dict[str, Callable[[Any], bool]] = {
    "PrintV2": lambda node: _text(node, "output_stream").startswith(b"file:"),
    "FixedUnigramCandidateSampler": lambda node: _text(node, "vocab_file") != b"",
    **dict.fromkeys(("DecodeProtoV2", "EncodeProto"), _descriptor_is_a_file),
    **dict.fromkeys(
        "DebugIdentity DebugIdentityV2 DebugIdentityV3 DebugNanCount DebugNumericSummary".split(),
        _debugs_to,
    ),
}


def _by_operation(table: dict[str, str]) -> dict[str, str]:
    return {op: deed for deed, ops in table.items() for op in ops.split()}


_ANYWHERE, _WHERE_RUN = _by_operation(ANYWHERE), _by_operation(WHERE_RUN)


def refuse_untrusted(
    graph_def: Any, name: str, executed: Container[str] | None, *, trust: bool
) -> None:
    """Refuses a graph that would reach out of itself, unless it is trusted.

    What runs Python, writes files, talks to other machines or hides code is refused anywhere in
    the graph or its functions; what reads files, and what TensorFlow does not know, where it runs.

    Args:
      graph_def: a GraphDef with its function library.
      name: the graph's name for messages.
      executed: names of the top-level nodes that will run; None for all.
      trust: whether the user gave --trust: nothing is refused.

    Raises:
      UserError: if it is refused; names operation, node and --trust.
    """
    if trust:
        return
    functions = {function.signature.name: function for function in graph_def.library.function}
    for node in graph_def.node:
        _refuse(node, _ANYWHERE, name)
    for function in functions.values():
        for node in function.node_def:
            _refuse(node, _ANYWHERE, f"{name}, function {function.signature.name},")
    for node in _running(graph_def, functions, executed):
        _refuse(node, _WHERE_RUN, name)
        if node.op not in functions and op_def_registry.get(node.op) is None:
            raise UserError(
                f"{name} holds {node.name} ({node.op}), an operation that TensorFlow does not "
                "know; give --trust if you trust who made it and have loaded its library"
            )


def _refuse(node: Any, deeds: dict[str, str], name: str) -> None:
    """Refuses one node if its operation is among those listed (UserError)."""
    deed = deeds.get(node.op)
    if deed is not None and _IF.get(node.op, lambda node: True)(node):
        raise UserError(
            f"{name} holds {node.name} ({node.op}), which {deed}; give --trust if you trust who "
            "made it"
        )


def _running(
    graph_def: Any, functions: dict[str, Any], executed: Container[str] | None
) -> Iterator[Any]:
    """Lists the nodes that will run, and those of the functions that they call."""
    gradients = {item.function_name: item.gradient_func for item in graph_def.library.gradient}
    nodes = [node for node in graph_def.node if executed is None or node.name in executed]
    called: set[str] = set()
    while nodes:
        node = nodes.pop()
        yield node
        names = [node.op, *_functions_in(node.attr)]
        names += [gradients[name] for name in names if name in gradients]
        for name in functions.keys() & set(names) - called:
            called.add(name)
            nodes.extend(functions[name].node_def)


def _functions_in(attributes: Any) -> Iterator[str]:
    """Lists the functions that a node's attributes name."""
    for value in attributes.values():
        for function in [value.func, *value.list.func]:
            yield function.name
            yield from _functions_in(function.attr)
