"""One flat table of nodes: every function call is replaced by the body it calls.

A call becomes four kinds of pseudo-nodes, all named after it: `_Frame` (its body
runs only if this is live), `_Arg` (a parameter, standing for the caller's tensor),
`_Ret` (an output) and `_Call` (running the call, with all that its body writes).
A while loop adds `_Loop`, the merge of a loop variable's first and next values.
"""

import re
from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple

from tensorflow.python.framework import op_def_registry

from alexnet_tf1.batchnorm.graph.node import Node, NodeId, Tensor
from alexnet_tf1.batchnorm.graph.walk import Walks

# A graph from a stranger may call functions within functions without end: calls are expanded up to
# so many nodes, or a multiple of those that the file holds; a node takes some 500 bytes in all.
MAX_NODES = 400_000
_ALWAYS, _TIMES = 40_000, 4
MAX_DEPTH = 48
OUTPUT = re.compile(r"[0-9]{1,9}")  # what follows the colon in a tensor's name

_CALL_ATTRS = dict.fromkeys(
    """PartitionedCall StatefulPartitionedCall TPUPartitionedCall RemoteCall
    BatchFunction""".split(),
    "f",
) | {"XlaLaunch": "function"}
# Attributes with the functions of If and While: their labels, and the predicate that asks for each.
_Functions = dict[str, tuple[str, "bool | None"]]
_IF: _Functions = {"then_branch": ("then", True), "else_branch": ("else", False)}
_WHILE: _Functions = {"cond": ("cond", None), "body": ("body", None)}
_LABELLED = {"If": _IF, "StatelessIf": _IF, "While": _WHILE, "StatelessWhile": _WHILE}
_CASE = {"Case", "StatelessCase"}


class _Callee(NamedTuple):
    """A function that a node calls once per run."""

    label: str
    function: str
    want: bool | int | None = None  # the node's input 0 that makes it run; None: always


class _Call(NamedTuple):
    """A call while it waits to be expanded."""

    node: Node  # the `_Call` node; its inputs are the caller's
    rets: list[NodeId]
    callees: list[_Callee]
    stack: tuple[str, ...]  # the functions that it lies in


class FlatGraph:
    """The whole graph as one table, functions inlined."""

    def __init__(self, graph_def: Any, op_defs: dict[str, Any] | None = None) -> None:
        self.nodes: list[Node] = []
        self.producer = int(graph_def.versions.producer)  # the version of the format
        self.truncated: list[str] = []  # calls left unexpanded because of recursion or size
        self.walks = Walks()  # through this graph, and counts those that were cut
        self._promised = 0  # nodes of the calls in the queue
        held = len(graph_def.node) + sum(len(f.node_def) for f in graph_def.library.function)
        self._most = min(MAX_NODES, _ALWAYS + _TIMES * held)
        self._library = {f.signature.name: f for f in graph_def.library.function}
        self._op_defs = op_defs or {}
        self._outputs: dict[str, list[tuple[str, str, str]]] = {}
        self._queue: deque[_Call] = deque()
        # What a name at the top level stands for: a node, or a call with its outputs.
        self.top: dict[str, NodeId | _Call] = self._scope("", graph_def.node, {}, None, ())
        while self._queue:
            self._expand(self._queue.popleft())
        self._cut_invariant_loops()
        self.consumers = self._consumers()

    # ---- names -------------------------------------------------------------------

    def top_tensor(self, name: str, output: int) -> Tensor | None:
        """The flat tensor behind a top-level name, or None if there is no such node."""
        entry = self.top.get(name)
        return None if entry is None else _output(entry, output)

    def run_nodes(self, name: str) -> list[NodeId]:
        """Ids of the nodes that running this top-level operation runs."""
        entry = self.top[name]
        return [entry] if isinstance(entry, int) else [entry.node.id, *entry.rets]

    # ---- building ----------------------------------------------------------------

    def _add(self, name: str, op: str, definition: Any) -> Node:
        node_id = NodeId(len(self.nodes))
        node = Node(node_id, name, op, definition, place=node_id)
        self.nodes.append(node)
        return node

    def _scope(
        self,
        path: str,
        definitions: Iterable[Any],
        names: dict[str, NodeId | _Call],
        frame: NodeId | None,
        stack: tuple[str, ...],
    ) -> dict[str, NodeId | _Call]:
        """Adds one graph's or one body's nodes and resolves their inputs."""
        fresh: list[tuple[Node, Any]] = []
        for definition in definitions:
            name = path + definition.name
            callees = self._callees(definition)
            if callees and self._may_expand(name, callees, stack):
                call = self._new_call(name, definition, callees, stack)
                node, names[definition.name] = call.node, call
                self._queue.append(call)
            else:
                node = self._add(name, definition.op, definition)
                names[definition.name] = node.id
            node.function = stack[-1] if stack else ""
            fresh.append((node, definition))
        for node, definition in fresh:
            self._resolve(node, definition, names)
            if frame is not None:
                node.controls.append(frame)
        return names

    def _may_expand(self, name: str, callees: list[_Callee], stack: tuple[str, ...]) -> bool:
        size = self._size(callees)
        fits = len(stack) < MAX_DEPTH and len(self.nodes) + self._promised + size < self._most
        if fits and not any(callee.function in stack for callee in callees):
            self._promised += size
            return True
        self.truncated.append(name)
        return False

    def _size(self, callees: list[_Callee]) -> int:
        """Counts the nodes that calling them adds at most: parameters, outputs, loops, body."""
        functions = [self._library[callee.function] for callee in callees]
        return sum(
            len(f.signature.input_arg) + 2 * len(f.signature.output_arg) + len(f.node_def) + 2
            for f in functions
        )

    def _callees(self, definition: Any) -> list[_Callee]:
        op, attributes = definition.op, definition.attr
        found: list[_Callee] = []
        if op in self._library:
            found = [_Callee("", op)]
        elif op in _CALL_ATTRS and _CALL_ATTRS[op] in attributes:
            found = [_Callee("", attributes[_CALL_ATTRS[op]].func.name)]
        elif op in _LABELLED:
            for key, (label, want) in _LABELLED[op].items():
                found.append(_Callee(label, attributes[key].func.name, want))
        elif op in _CASE:
            branches = attributes["branches"].list.func
            found = [_Callee(f"case_{k}", func.name, k) for k, func in enumerate(branches)]
        return found if all(callee.function in self._library for callee in found) else []

    def _new_call(
        self, name: str, definition: Any, callees: list[_Callee], stack: tuple[str, ...]
    ) -> _Call:
        node = self._add(name, "_Call", definition)
        signature = self._library[callees[-1].function].signature
        rets = [self._add(name, "_Ret", definition) for _ in signature.output_arg]
        for ret in rets:
            ret.controls.append(node.id)
        return _Call(node, [ret.id for ret in rets], callees, stack)

    def _resolve(self, node: Node, definition: Any, names: dict[str, NodeId | _Call]) -> None:
        """Turns the NodeDef's input strings into flat tensors; unknown names are dropped."""
        for text in definition.input:
            if text.startswith("^"):
                node.controls.extend(_node_of(names.get(text[1:])))
            elif (tensor := self._tensor(text, names)) is not None:
                node.inputs.append(tensor)

    def _tensor(self, text: str, names: dict[str, NodeId | _Call]) -> Tensor | None:
        """Resolves "node", "node:0" or, in a function's body, "node:output_name:0"."""
        parts = text.split(":")
        entry = names.get(parts[0])
        if entry is None or (len(parts) > 1 and not OUTPUT.fullmatch(parts[-1])):
            return None
        if len(parts) == 3:
            return _output(entry, self._output_index(entry, parts[1], int(parts[2])))
        return _output(entry, int(parts[1]) if len(parts) == 2 else 0)

    def _output_index(self, entry: NodeId | _Call, name: str, offset: int) -> int:
        """Flat index of an output that a function's body names by its OpDef."""
        if isinstance(entry, _Call):
            op, definition = entry.callees[-1].function, entry.node.definition
            if entry.callees[0].label:  # If, While and Case have one list named "output"
                return offset
        else:
            op, definition = self.nodes[entry].op, self.nodes[entry].definition
        if definition.op in _CALL_ATTRS:
            return offset
        if op not in self._outputs:
            own = self._library[op].signature if op in self._library else None
            op_def = own or op_def_registry.get(op) or self._op_defs.get(op)
            args = op_def.output_arg if op_def is not None else ()
            self._outputs[op] = [(a.name, a.number_attr, a.type_list_attr) for a in args]
        index = 0
        for arg, number_attr, type_list_attr in self._outputs[op]:
            if arg == name:
                return index + offset
            if number_attr:
                index += int(definition.attr[number_attr].i)
            elif type_list_attr:
                index += len(definition.attr[type_list_attr].list.type)
            else:
                index += 1
        return offset

    # ---- expanding calls -----------------------------------------------------------

    def _expand(self, call: _Call) -> None:
        """Replaces a call by the bodies of its functions."""
        node, op = call.node, call.node.definition.op
        self._promised -= self._size(call.callees)
        if _LABELLED.get(op) is _WHILE:
            self._expand_while(call)
            return
        selects = op in _LABELLED or op in _CASE or op == "RemoteCall"
        arguments = node.inputs[1:] if selects else list(node.inputs)
        before = list(node.controls)
        for callee in call.callees:
            path = f"{node.name}/{callee.label}".rstrip("/")
            frame = self._frame(call, path, callee.want, before)
            self._pass_on(self._body(call, callee.function, path, frame, arguments), call.rets)

    def _pass_on(self, tensors: list[Tensor | None], targets: list[NodeId]) -> None:
        for tensor, target in zip(tensors, targets, strict=False):
            if tensor is not None:
                self.nodes[target].inputs.append(tensor)

    def _frame(self, call: _Call, path: str, want: bool | int | None, before: list[NodeId]) -> Node:
        frame = self._add(path, "_Frame", call.node.definition)
        frame.want = want
        frame.inputs = list(call.node.inputs)
        frame.controls = before
        call.node.controls.append(frame.id)
        return frame

    def _expand_while(self, call: _Call) -> None:
        node, loops = call.node, []
        for ret, tensor in zip(call.rets, node.inputs, strict=False):
            loop = self._add(node.name, "_Loop", node.definition)
            loop.inputs = [tensor]
            loops.append(loop.id)
            self.nodes[ret].inputs.append(Tensor(loop.id, 0))
        variables = [Tensor(loop, 0) for loop in loops]
        frame = self._frame(call, node.name, None, list(node.controls))
        for label, function, _ in call.callees:
            returned = self._body(call, function, f"{node.name}/{label}", frame, variables)
            if label == "body":
                self._pass_on(returned, loops)

    def _body(
        self, call: _Call, function: str, path: str, frame: Node, arguments: list[Tensor]
    ) -> list[Tensor | None]:
        """Adds a function's body; returns what each of its outputs stands for."""
        fdef = self._library[function]
        names: dict[str, NodeId | _Call] = {}
        for k, arg in enumerate(fdef.signature.input_arg):
            node = self._add(f"{path}/{arg.name}", "_Arg", call.node.definition)
            node.controls.append(frame.id)
            node.inputs.extend(arguments[k : k + 1])
            names[arg.name] = node.id
        first = len(self.nodes)
        self._scope(f"{path}/", fdef.node_def, names, frame.id, (*call.stack, function))
        # Whoever runs the call runs its control outputs, and all that its body writes; but a
        # session lowers an If, While or Case to Switch and Merge, and so prunes its body.
        attribute = call.node.attr("_lower_using_switch_merge")
        lowered = attribute is not None and attribute.b
        for node in self.nodes[first:]:
            node.place = call.node.place
            if (node.op == "_Call" or _writes(node.op)) and not lowered:
                call.node.controls.append(node.id)
        for target in fdef.control_ret.values():
            call.node.controls.extend(_node_of(names.get(target)))
        return [self._tensor(fdef.ret.get(a.name, ""), names) for a in fdef.signature.output_arg]

    # ---- after building --------------------------------------------------------------

    def _cut_invariant_loops(self) -> None:
        """Drops the back edge of loop variables that the loop only passes on."""
        for node in self.nodes:
            if node.op in ("_Loop", "Merge", "RefMerge") and len(node.inputs) == 2:
                back = [t for t in node.inputs if self._passes_on(t, node.id)]
                if back:
                    node.inputs.remove(back[0])

    def _passes_on(self, tensor: Tensor, target: NodeId) -> bool:
        for steps in range(64):
            node = self.nodes[tensor.node]
            if node.id == target:
                return steps > 0
            one = len(node.inputs) == 1 and node.op in ("_Arg", "_Ret", "_Loop")
            if not (one or node.op in ("Identity", "NextIteration", "Switch", "RefSwitch")):
                return False
            if not node.inputs:
                return False
            tensor = node.inputs[0]
        return False

    def _consumers(self) -> list[list[tuple[NodeId, int]]]:
        """For each node, those that take one of its outputs, and as which of their inputs."""
        consumers: list[list[tuple[NodeId, int]]] = [[] for _ in self.nodes]
        for node in self.nodes:
            inputs = node.inputs[: {"_Call": 0, "_Frame": 1}.get(node.op)]
            for k, (source, _) in enumerate(inputs):
                consumers[source].append((node.id, k))
        return consumers


def _output(entry: NodeId | _Call, output: int) -> Tensor | None:
    if isinstance(entry, int):
        return Tensor(entry, output)
    return Tensor(entry.rets[output], 0) if 0 <= output < len(entry.rets) else None


def _node_of(entry: NodeId | _Call | None) -> list[NodeId]:
    """The node that waiting for a name waits for; none if there is no such name."""
    if entry is None:
        return []
    return [entry if isinstance(entry, int) else entry.node.id]


def _writes(op: str) -> bool:
    return ("Assign" in op or "Scatter" in op or "Apply" in op) and not op.startswith("Tensor")
