"""Settles what is run of a model: outputs, switch, what is fed, and where it normalises."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from alexnet_tf1.batchnorm import entry_points
from alexnet_tf1.batchnorm.choices import Choices
from alexnet_tf1.batchnorm.entry_points import trainable_ids
from alexnet_tf1.batchnorm.graph.flatten import FlatGraph
from alexnet_tf1.batchnorm.graph.fold import Folding
from alexnet_tf1.batchnorm.graph.followers import Followers
from alexnet_tf1.batchnorm.graph.node import NodeId, Tensor
from alexnet_tf1.batchnorm.layers.grouping import find_layers
from alexnet_tf1.batchnorm.layers.provenance import Provenance
from alexnet_tf1.batchnorm.model.copies import Copy
from alexnet_tf1.batchnorm.model.edit import GraphEdit
from alexnet_tf1.batchnorm.model.feeds import Examples
from alexnet_tf1.batchnorm.model.inline import inlined
from alexnet_tf1.batchnorm.model.source import Model
from alexnet_tf1.batchnorm.model.spots import Found, Spots
from alexnet_tf1.errors import UserError

# Operations that have no value until something outside of the session gives them one.
_SOURCES = ("Placeholder", "PlaceholderV2")
_WAITING = ("Dequeue", "IteratorGetNext", "IteratorGetNextSync", "Unstage", "InfeedDequeue")


@dataclass(frozen=True)
class Prepared:
    """A model that is ready to be run at inference.

    Attributes:
      model: the model.
      graph_def: its graph, functions inlined; nothing else is changed.
      provenance: the same graph, as the audit knows it.
      training: with the switches at training.
      inference: and at inference.
      spots: finds where it normalises.
      outputs: the tensors that inference computes.
      switches: the training switches that were found or named, as "name:0".
      found: its batch normalisations on the way to the outputs.
      feeds: the tensor that each of the examples' arrays and constants is fed to.
      arrays: which of these are fed example by example.
      shapes: of these tensors, with None for what is not known; the first is the batch.
      dtypes: of these tensors.
      notes: what was chosen.
      remarks: what else the user should know.
    """

    model: Model
    graph_def: Any
    provenance: Provenance
    training: Folding
    inference: Folding
    spots: Spots
    outputs: list[str]
    switches: list[str]
    found: Found
    feeds: dict[str, str]
    arrays: list[str]
    shapes: dict[str, tf.TensorShape] = field(default_factory=dict)
    dtypes: dict[str, tf.DType] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def batch_size(self) -> int | None:
        """The number of examples that must be run together; None: any."""
        arrays = (self.shapes[self.feeds[name]] for name in self.arrays)
        sizes = [shape.as_list()[0] for shape in arrays if shape.rank]
        return next((size for size in sizes if size is not None), None)

    def name(self, tensor: Tensor) -> str:
        """The tensor's name, as "node:0"."""
        return _name(self.provenance.flat, tensor)

    def edit(self, *, training: bool = False) -> GraphEdit:
        """Begins a copy with the switches held and placeholders for what is fed."""
        edit = GraphEdit(self.graph_def)
        held = self.training if training else self.inference
        for tensor, value in held.assumed.items():
            if self.provenance.nodes[tensor.node].op != "VarHandleOp":  # its reads are held
                self._hold(edit, tensor, value)
        for name, fed in self.feeds.items():
            placed = edit.graft(self.placeholder(name), self._placeholder(fed), {})["x"]
            edit.replace(fed, placed)
            edit.never_run(fed.partition(":")[0], placed.partition(":")[0])
        return edit

    def _placeholder(self, tensor: str) -> Callable[[], dict[str, Any]]:
        shape, dtype = self.shapes[tensor], self.dtypes[tensor]
        return lambda: {"x": tf.placeholder(dtype, shape, name="x")}

    def _hold(self, edit: GraphEdit, tensor: Tensor, value: Any) -> None:
        """Puts a constant in the place of a switch."""
        node = self.provenance.nodes[tensor.node]
        kinds = (node.attr(key) for key in ("dtype", "T", "DstT"))
        kind = next((attr.type for attr in kinds if attr is not None), tf.bool.as_datatype_enum)
        dtype = tf.as_dtype(kind).base_dtype.as_numpy_dtype

        def constant() -> dict[str, Any]:
            return {"x": tf.constant(np.asarray(value, dtype), name="at_inference")}

        held = edit.graft(f"switch_{tensor.node}", constant, {})["x"]
        edit.replace(f"{node.name}:{tensor.output}", held)
        if node.op.startswith("Placeholder"):
            edit.never_run(node.name, held.partition(":")[0])

    def placeholder(self, name: str) -> str:
        """The scope of the placeholder in an edited graph that an array is fed to."""
        return "feed_" + "".join(c if c.isalnum() else "_" for c in self.feeds[name])

    def feed(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """Gives what is fed in an edited graph for these arrays and constants."""
        return {
            f"{self.placeholder(name)}/x:0": value
            for name, value in arrays.items()
            if name in self.feeds
        }


def prepare(
    model: Model, examples: Examples, logits: Any = None, is_training: Any = None
) -> Prepared:
    """Finds what inference computes in a model, and where it normalises.

    Args:
      model: the model.
      examples: what is to be fed.
      logits: outputs, tensors or names; None: those that the audit finds.
      is_training: the switch, as for the audit.

    Returns:
      The model, ready.

    Raises:
      UserError: if something named is not in the graph, or what is fed does not fit it or does
        not suffice.
    """
    source = model.source
    graph_def, flat = _inlined(model, [*examples.arrays, *examples.constants, logits, is_training])
    provenance = Provenance(flat)
    layers = find_layers(provenance, trainable_ids(source, provenance.variables))
    if not layers:
        raise UserError(f"{model.name} holds no batch normalisation, as far as can be told")
    choices = Choices(source, provenance, layers, Followers(flat))
    switches = choices.switches(is_training)
    training, inference = (choices.folded(switches, training=mode) for mode in (True, False))
    outputs = _outputs(choices, logits, training, inference)
    spots = Spots(provenance, inference, layers, choices.followers.in_loops)
    held = [_name(flat, switch.tensor) for switch in switches]
    feeds, remarks = {}, []
    for name in (*examples.arrays, *examples.constants):
        tensor = _tensor_name(source.inputs.get(name, name))
        tensor = _name(flat, entry_points.tensor_named(flat, tensor, "--feed"))
        if tensor in held:
            remarks.append(f"{tensor} is held at inference; what is given for it is not used")
        else:
            feeds[name] = tensor
    prepared = Prepared(
        model,
        graph_def,
        provenance,
        training,
        inference,
        spots,
        [_name(flat, tensor) for tensor in outputs],
        held,
        spots.before(outputs),
        feeds,
        [name for name in examples.arrays if name in feeds],
        notes=choices.notes,
        remarks=[*remarks, *_random_notes(flat, inference, outputs)],
    )
    for tensor, (shape, dtype) in _described(prepared).items():
        prepared.shapes[tensor], prepared.dtypes[tensor] = shape, dtype
    _check_fed(prepared, examples)
    _check_complete(prepared)
    return prepared


def _random_notes(flat: FlatGraph, inference: Folding, outputs: list[Tensor]) -> Iterator[str]:
    """Says that inference draws random numbers: a dropout that no switch turns off, for one."""
    run = inference.executed(tensor.node for tensor in outputs)
    drawn = [flat.nodes[n].name for n in sorted(run) if "Random" in flat.nodes[n].op]
    if drawn:
        yield f"inference draws random numbers ({drawn[0]}): is it a dropout that stays on?"


def _inlined(model: Model, named: Iterable[Any]) -> tuple[Any, FlatGraph]:
    """The model's graph without functions, in which what is named keeps its names."""
    source = model.source
    whole = FlatGraph(source.graph_def, source.op_defs)
    names = [source.inputs.get(n, n) for n in _names(named)]
    keep = {n.partition(":")[0] for n in (*names, *source.outputs)}
    graph_def = inlined(whole, source.graph_def, keep & whole.top.keys(), model.name)
    if graph_def is source.graph_def:
        return graph_def, whole
    return graph_def, FlatGraph(graph_def, source.op_defs)


def _outputs(choices: Choices, logits: Any, training: Folding, inference: Folding) -> list[Tensor]:
    """The outputs named, the signature's, or those found."""
    trained: set[NodeId] = set()
    for name in choices.train_ops(None, training):
        trained |= training.executed(inference.flat.run_nodes(name))
    outputs = choices.outputs(logits, trained, training, inference).tensors
    if logits is None and not choices.source.outputs:
        outputs = _last(outputs, inference, choices.followers.in_loops)
    if not outputs:
        raise UserError("no output was found; name what inference computes with --logits")
    return outputs


def _name(flat: FlatGraph, tensor: Tensor) -> str:
    return f"{flat.nodes[tensor.node].name}:{tensor.output}"


def _described(prepared: Prepared) -> dict[str, tuple[tf.TensorShape, tf.DType]]:
    """Shape and dtype of every tensor that is fed."""
    tensors = list(prepared.feeds.values())
    graph_def = GraphEdit(prepared.graph_def).result(tensors)
    with Copy(graph_def, prepared.model.source.op_defs, prepared.model.name) as copy:
        return {tensor: (copy.shape(tensor), copy.dtype(tensor)) for tensor in tensors}


def _check_fed(prepared: Prepared, examples: Examples) -> None:
    """Refuses arrays and constants that do not fit the tensors they are fed to."""
    for given, option in ((examples.arrays, "--feed"), (examples.constants, "--set")):
        for name, value in given.items():
            if name not in prepared.feeds:
                continue
            shape = prepared.shapes[prepared.feeds[name]]
            dtype = prepared.dtypes[prepared.feeds[name]]
            array = value if hasattr(value, "dtype") else np.asarray(value)
            sizes = [None, *array.shape[1:]] if option == "--feed" else array.shape
            if not shape.is_compatible_with(sizes) and not (shape.rank and shape.as_list()[0]):
                raise UserError(
                    f"{option} {name}: its shape is {list(array.shape)}, and the graph takes "
                    f"{_shown(shape)}; reshape it"
                )
            kind = dtype.as_numpy_dtype
            if not np.can_cast(array.dtype, kind, "same_kind") and dtype != tf.string:
                raise UserError(
                    f"{option} {name}: its values are {array.dtype}, and the graph takes "
                    f"{dtype.name}; convert them"
                )


def _check_complete(prepared: Prepared) -> None:
    """Refuses to run where an input is neither fed nor has a value of its own."""
    graph_def = prepared.edit().result(prepared.outputs)
    waiting = [
        node
        for node in graph_def.node
        if (node.op in _SOURCES and not node.name.startswith("feed_"))
        or any(word in node.op for word in _WAITING)
    ]
    if waiting:
        listed = ", ".join(f"{node.name} {_shown(_shape_of(node))}" for node in waiting[:8])
        several = len(prepared.outputs) > 1
        choice = f", or one of {', '.join(prepared.outputs)} with --logits" if several else ""
        raise UserError(
            f"{prepared.model.name}: nothing is fed to {listed}; give one value an example with "
            "--feed NAME=FILE or one for all with --set NAME=VALUE, to it or to a tensor behind "
            f"it{choice}"
        )


def _shape_of(node: Any) -> tf.TensorShape:
    return tf.TensorShape(node.attr["shape"].shape if "shape" in node.attr else None)


def _shown(shape: tf.TensorShape) -> str:
    if shape.rank is None:
        return "(shape unknown)"
    return "[" + ", ".join("?" if size is None else str(size) for size in shape.as_list()) + "]"


def _last(outputs: list[Tensor], inference: Folding, loops: Container[NodeId]) -> list[Tensor]:
    """Those of the outputs that can be fetched and that no other one is computed from."""
    fetched = [tensor for tensor in outputs if tensor.node not in loops]
    before = {
        tensor: {t.node for t in inference.data_cone([tensor])} - {tensor.node}
        for tensor in fetched
    }
    return [
        tensor for tensor in fetched if not any(tensor.node in cone for cone in before.values())
    ]


def _names(given: Iterable[Any]) -> Iterator[str]:
    """The names in what the caller gave: names, tensors, or lists of them."""
    for items in given:
        listed = items if isinstance(items, (list, tuple, set)) else [items]
        known = [item for item in listed if item is not None and not isinstance(item, bool)]
        yield from entry_points.names_of(known)


def _tensor_name(name: str) -> str:
    return name if ":" in name else f"{name}:0"
