"""Static audit of batch normalisation: what training updates and what inference reads.

Works on any TF1 graph, from its protos alone: nothing is imported into TensorFlow's
runtime and nothing is executed. The stages, each in a module of its own:
graph_source (read) -> flatten (inline functions) -> folding (hold the switch at a
value) -> moments, sites,
averages, grouping (find the layers) -> roots (find what was
not named) -> rules.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from alexnet_tf1.batchnorm import entry_points as roots
from alexnet_tf1.batchnorm.graph import load as graph_source
from alexnet_tf1.batchnorm.graph.flatten import FlatGraph, Tensor
from alexnet_tf1.batchnorm.graph.fold import Folding, evaluation_order
from alexnet_tf1.batchnorm.graph.load import GraphSource
from alexnet_tf1.batchnorm.graph.variables import Variables
from alexnet_tf1.batchnorm.layers.grouping import Layer, find_layers
from alexnet_tf1.batchnorm.layers.provenance import Moments
from alexnet_tf1.batchnorm.report import Fault
from alexnet_tf1.batchnorm.rules import evidence as rules
from alexnet_tf1.errors import UserError

_TRAIN_WORDS = ("train", "learning_phase", "is_tr", "phase")
_TEST_WORDS = ("test", "infer", "eval", "predict", "deterministic")


@dataclass
class AuditReport:
    """What an audit found.

    Attributes:
      layers: each batch normalisation's name and its moving averages' operation names.
      faults: in the order of the layers, then of the rules.
      notes: what was chosen for the caller, and what could not be checked.
    """

    layers: list[tuple[str, list[str]]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_json(self, graph_name: str) -> dict[str, Any]:
        """The report as the command line prints it.

        Args:
          graph_name: what the graph is called, usually its path.

        Returns:
          Plain lists and dicts for json.dumps.
        """
        return {
            "graph": graph_name,
            "layers": [{"name": n, "moving_averages": list(a)} for n, a in self.layers],
            "faults": [fault._asdict() for fault in self.faults],
            "notes": list(self.notes),
        }


def audit_graph(
    graph: Any, train_ops: Any = None, logits: Any = None, is_training: Any = None
) -> AuditReport:
    """Checks a graph's batch normalisations by rules BN101 to BN203.

    Args:
      graph: tf.Graph, GraphDef, MetaGraphDef or SavedModel.
      train_ops: the training operation, or all of them: operations, tensors or names.
        None: found; an empty list: the graph does not train.
      logits: the tensor or tensors that inference computes, or their names. None: found.
      is_training: the training switch, a tensor, variable or name (or a list of several);
        a Python bool says the graph was built with a constant. None: found, if there is one.

    Returns:
      The layers, the faults and notes on what was found or not checked.

    Raises:
      UserError: if a name is not in the graph, or something has to be named.
    """
    return _audit(graph_source.from_object(graph), train_ops, logits, is_training)


def audit_file(
    path: str | os.PathLike[str],
    train_ops: Any = None,
    logits: Any = None,
    is_training: Any = None,
    tags: Sequence[str] | None = None,
    signature: str | None = None,
) -> AuditReport:
    """Checks the graph in a .meta file, a SavedModel folder or a saved_model.pb.

    Args:
      path: the file or folder; it is only parsed.
      train_ops: as for audit_graph, by name.
      logits: as for audit_graph, by name.
      is_training: as for audit_graph, by name.
      tags: tags of the MetaGraph in a SavedModel that holds several.
      signature: the signature whose outputs are the logits.

    Returns:
      As audit_graph.

    Raises:
      UserError: if there is no graph, or as audit_graph.
    """
    source = graph_source.from_file(path, tags, signature)
    return _audit(source, train_ops, logits, is_training)


def _audit(source: GraphSource, train_ops: Any, logits: Any, is_training: Any) -> AuditReport:
    """The whole audit of one graph, with the garbage collector at rest.

    The table of nodes is many small objects: each time their number sets off the
    collector it would walk all of TensorFlow's live graph, three times the audit's work.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return _checked(source, train_ops, logits, is_training)
    finally:
        if was_enabled:
            gc.enable()


def _checked(source: GraphSource, train_ops: Any, logits: Any, is_training: Any) -> AuditReport:
    """The stages in their order."""
    audit = _Audit(source)
    logits_at = audit.choose_logits(logits)
    switches = audit.choose_switches(is_training)
    training = audit.folded(switches, True)
    inference = audit.folded(switches, False) if switches else training
    train_nodes, train_name = audit.choose_train_ops(train_ops, training)
    evidence = rules.Evidence(
        moments=audit.moments,
        variables=audit.variables,
        training=training,
        inference=inference,
        trained=training.executed(train_nodes) if train_nodes else None,
        read=inference.data_cone(logits_at),
        run=inference.executed(t[0] for t in logits_at),
        train_name=train_name,
        collected=audit.collected(),
    )
    report = AuditReport(notes=audit.notes)
    report.layers = [
        (layer.name, [audit.variables.names[v] for v in layer.averages]) for layer in audit.layers
    ]
    report.faults = rules.check(audit.layers, evidence)
    return report


class _Audit:
    """One graph taken apart, and what was chosen where the caller named nothing."""

    def __init__(self, source: GraphSource) -> None:
        self.source = source
        self.flat = FlatGraph(source.graph_def, source.op_defs)
        self.order = evaluation_order(self.flat)
        self.variables = Variables(self.flat)
        plain = Folding(self.flat, fold=False)
        self.moments = Moments(plain, self.variables, self.order)
        trainable = roots.trainable_ids(source, self.variables)
        self.layers: list[Layer] = find_layers(self.moments, self.variables, trainable)
        self.notes: list[str] = []
        if self.flat.truncated:
            self.notes.append(
                f"{len(self.flat.truncated)} calls were not looked into (recursive or too "
                f"large), the first: {self.flat.truncated[0]}"
            )
        if not self.layers:
            self.notes.append("no batch normalisation was found")

    def folded(self, switches: list[tuple[Tensor, bool]], training: bool) -> Folding:
        """The graph in training or in inference mode."""
        assumed: dict[Tensor, bool] = {}
        for switch, is_positive in switches:
            value = training == is_positive
            assumed.update(roots.assumption(self.flat, self.variables, switch, value))
        return Folding(self.flat, assumed, order=self.order)

    def collected(self) -> set[int]:
        """Nodes that running the UPDATE_OPS collection runs."""
        names = self.source.collections.get(graph_source.UPDATE_OPS, ())
        found = [n for name in names if name in self.flat.top for n in self.flat.run_nodes(name)]
        return self.moments.plain.executed(found)

    # ---- choices ---------------------------------------------------------------------

    def choose_logits(self, logits: Any) -> list[Tensor]:
        """The logits named, else those found; none are needed where nothing is normalised."""
        names = roots.names_of(logits)
        if not names:
            if not self.layers:
                return []
            names = roots.find_logits(self.source, self.flat, self.moments)
            self.notes.append(f"logits: {', '.join(names)} (found; --logits names others)")
        return [roots.tensor_named(self.flat, name, "--logits") for name in names]

    def choose_train_ops(self, train_ops: Any, training: Folding) -> tuple[list[int], str]:
        """Nodes to start training from, and what messages call them."""
        names = roots.names_of(train_ops)
        if train_ops is None and self.layers:
            names = roots.find_train_ops(self.source, self.flat, self.moments, self.variables)
            if names:
                shown = ", ".join(names[:4]) + (" ..." if len(names) > 4 else "")
                self.notes.append(f"training ops: {shown} (found; --train-op names others)")
            else:
                self._accept_no_training(training)
        elif not names and self.layers:
            self.notes.append("no training op was given: BN101 and BN102 were not checked")
        nodes = roots.run_nodes(self.flat, names, "--train-op")
        if len(names) == 1:
            return nodes, names[0].partition(":")[0]
        return nodes, "any of the training ops"

    def _accept_no_training(self, training: Folding) -> None:
        """An inference graph lacks a training op; a graph whose layers learn must have one."""
        writes = (u.write for layer in self.layers for us in layer.updates.values() for u in us)
        if not self.source.inference_only and any(
            self.variables.changes(write, training) for write in writes
        ):
            raise UserError(
                "no training op was found, though the graph updates moving averages; "
                "name it with --train-op"
            )
        self.notes.append("the graph holds no training op: BN101 and BN102 were not checked")

    def choose_switches(self, is_training: Any) -> list[tuple[Tensor, bool]]:
        """The training switches, each with whether True means training."""
        if isinstance(is_training, bool):
            self.notes.append(f"is_training: the constant {is_training}, nothing to switch")
            return []
        names = roots.names_of(is_training)
        if not names:
            return self._find_switch() if self.layers else []
        found = []
        for name in names:
            tensor = roots.tensor_named(self.flat, name, "--is-training")
            if self.flat.nodes[tensor[0]].op == "Const":
                self.notes.append(f"is_training: {name} is a constant, nothing to switch")
            else:
                found.append((tensor, True))
        return found

    def _find_switch(self) -> list[tuple[Tensor, bool]]:
        """The one input or variable that decides what the layers do."""
        found = []
        for candidate in roots.switch_candidates(self.flat, self.variables)[:24]:
            on = self.folded([(candidate, True)], True)
            off = self.folded([(candidate, True)], False)
            if self._behaviour(on) != self._behaviour(off):
                found.append((candidate, self._is_positive(candidate, on, off)))
        names = [f"{self.flat.nodes[c[0]].name}:0" for c, _ in found]
        if len(found) > 1:
            raise UserError(
                "several inputs switch batch normalisation; choose with --is-training: "
                + ", ".join(names)
            )
        if not found:
            self.notes.append("is_training: no switch was found; both modes are the same graph")
            return []
        meaning = "" if found[0][1] else ", True meaning inference"
        self.notes.append(f"is_training: {names[0]} (found{meaning}; --is-training names others)")
        return found

    def _behaviour(self, folding: Folding) -> list[Any]:
        """What every layer does under the folding."""
        seen: list[Any] = []
        for layer in self.layers:
            for site in layer.sites:
                sources = [self.moments.sources(t, folding) for t in [*site.means, *site.variances]]
                dead = folding.dead[site.node]
                seen.append((dead, [(s.moments, s.variables) for s in sources if not dead]))
            for updates in layer.updates.values():
                seen.extend(self.variables.changes(u.write, folding) for u in updates)
        return seen

    def _is_positive(self, switch: Tensor, on: Folding, off: Folding) -> bool:
        """Whether True means training: by the name if it says so, else by what it does."""
        name = self.flat.nodes[switch[0]].name.lower()
        if any(word in name for word in _TEST_WORDS):
            pass
        elif any(word in name for word in _TRAIN_WORDS):
            return True
        return self._batches(on) >= self._batches(off)

    def _batches(self, folding: Folding) -> int:
        return sum(_normalises_with_batch(self.moments, layer, folding) for layer in self.layers)


def _normalises_with_batch(moments: Moments, layer: Layer, folding: Folding) -> bool:
    return any(rules.uses_batch(moments, site, folding) for site in layer.sites)
