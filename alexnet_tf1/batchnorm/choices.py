"""Settles what is audited: the training ops, the outputs, the switches; as named, else as found."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from alexnet_tf1.batchnorm import entry_points
from alexnet_tf1.batchnorm.graph.constants import Scalar
from alexnet_tf1.batchnorm.graph.fold import Folding
from alexnet_tf1.batchnorm.graph.followers import Followers
from alexnet_tf1.batchnorm.graph.load import GraphSource
from alexnet_tf1.batchnorm.graph.node import NodeId, Tensor
from alexnet_tf1.batchnorm.layers.layer import Layer
from alexnet_tf1.batchnorm.layers.provenance import Provenance
from alexnet_tf1.batchnorm.layers.sites import uses_batch
from alexnet_tf1.batchnorm.networks import ForwardPass, Networks
from alexnet_tf1.batchnorm.report import Need
from alexnet_tf1.batchnorm.towers import Towers

_TRAIN_WORDS = ("train", "learning_phase", "is_tr", "phase")
_TEST_WORDS = ("test", "infer", "eval", "predict", "deterministic")
_TRIED = 24  # each input that is tried as the switch costs two foldings of the graph
_SHOWN = 4
_NOT_READ = "no output that inference computes was found behind them; name it with --logits"
_REASONS: dict[Need, str] = {
    "training": "no training op was given; name it with --train-op",
    "inference": "they were left out; give the graph that infers with --inference",
}


class Switch(NamedTuple):
    """A tensor that says whether the network trains."""

    tensor: Tensor  # the tensor or the variable
    training: Scalar = (
        True  # its value in training; that of a number is 1, or what it is compared to
    )
    inference: Scalar = False


class Outputs(NamedTuple):
    """The outputs of inference, and those of them by which each layer can be judged."""

    tensors: list[Tensor]
    judging: dict[str, list[Tensor]]  # by layer; nothing judges one that only trains


@dataclass
class Choices:
    """Chooses in one graph, and notes what was chosen for the caller."""

    source: GraphSource
    provenance: Provenance
    layers: list[Layer]
    followers: Followers
    notes: list[str] = field(default_factory=list)  # what was found
    # by family of rules, why it does not look at some layer, and the remedy
    reasons: dict[Need, str] = field(default_factory=lambda: dict(_REASONS))

    # ---- training ops --------------------------------------------------------------------

    def train_ops(self, given: Any, training: Folding) -> list[str]:
        """The training ops named, else those found; none in a graph that does not train."""
        names = entry_points.names_of(given)
        if given is None and self.layers:
            names = entry_points.find_train_ops(self.source, self.provenance, self.followers)
            if names:
                self.notes.append(f"training ops: {_some(names)} (found; --train-op names others)")
            elif self._updates(training):
                self.reasons["training"] = (
                    "no training op was found, though the graph updates moving averages; "
                    "name it with --train-op"
                )
            else:
                self.reasons["training"] = (
                    "the graph holds no training op; audit the graph that trains, or name the op "
                    "with --train-op"
                )
        if names:
            self.reasons["training"] = (
                f"{_some(names)} {'does' if len(names) == 1 else 'do'} not run them; name the "
                "operation that trains them with --train-op"
            )
        return names

    def _updates(self, training: Folding) -> bool:
        changes = self.provenance.variables.changes
        updates = (u for layer in self.layers for us in layer.updates.values() for u in us)
        return any(changes(update.write, training) for update in updates)

    # ---- outputs ---------------------------------------------------------------------------

    def outputs(
        self, given: Any, trained: set[NodeId], training: Folding, inference: Folding
    ) -> Outputs:
        """The outputs named, else a signature's, else the ends of all towers that infer.

        Args:
          given: names; None or none: find them.
          trained: nodes that the training ops run.
          training: the graph with the switches at training.
          inference: and at inference.

        Returns:
          The outputs, and the layers to judge by them.
        """
        self.reasons["inference"] = _NOT_READ
        names = entry_points.names_of(given)
        flat = self.provenance.flat
        if not names and self.source.outputs:
            names = [name for name in self.source.outputs if name.partition(":")[0] in flat.top]
            self.notes.append(f"logits: {_some(names)} (the signature's; --logits names others)")
        if names or not self.layers:
            tensors = [entry_points.tensor_named(flat, name, "--logits") for name in names]
            return Outputs(tensors, {layer.name: tensors for layer in self.layers})
        found = self._towers(trained, training, inference)
        tensors = sorted(t for own in found.outputs.values() for t in own)
        if tensors:
            shown = _some([self._described(tensor) for tensor in self._heads(tensors, inference)])
            self.notes.append(f"logits: {shown} (found; --logits names others)")
            return Outputs(tensors, found.judged())
        if not found.only_training:
            self.reasons["inference"] = (
                "no output was found; name what inference computes with --logits"
            )
            return Outputs([], {})
        self.reasons["inference"] = (
            "there is no inference graph here, only a training tower without a switch; give the "
            "graph that infers with --inference, or name what inference computes with --logits"
        )
        # What keeps no averages has nothing else to normalise with in any other graph.
        tensors = [t for own in found.only_training.values() for t in own]
        return Outputs(tensors, {x.name: tensors for x in self.layers if not x.averages})

    def _towers(self, trained: set[NodeId], training: Folding, inference: Folding) -> Towers:
        provenance = self.provenance
        weights = entry_points.weight_ids(self.source, provenance, self.layers)
        steps = entry_points.training_steps(self.source, provenance)
        networks = Networks(steps, weights, provenance, self.followers)
        switches = {tensor.node for tensor in self._candidates}
        idle = any(not provenance.flat.consumers[node] for node in switches)
        towers = Towers(
            provenance, networks, self.layers, training, inference, trained, switches, idle
        )
        towers.sort(ForwardPass(provenance, networks, self.layers).ends())
        return towers

    def _heads(self, tensors: list[Tensor], inference: Folding) -> list[Tensor]:
        """The outputs, without rectified ones that others are computed from: a frozen backbone's.

        A rectifier stands within a network; another network's input, such as an image, does not
        end in one.
        """
        rectified = [t for t in tensors if self.provenance.nodes[t.node].op.startswith("Relu")]
        behind = [t for t in tensors if t not in rectified]
        met = inference.data_cone(behind) if rectified else set()
        return [t for t in tensors if t not in rectified or t not in met]

    def _described(self, tensor: Tensor) -> str:
        """The tensor's name, or that of the call it lies in, and its shape where recorded."""
        node, flat = self.provenance.nodes[tensor.node], self.provenance.flat
        name, output = node.name, tensor.output
        if node.op == "_Ret":
            output = flat.run_nodes(name).index(node.id) - 1 if name in flat.top else 0
        while name not in flat.top and "/" in name:
            name = name.rpartition("/")[0]
        shapes = node.attr("_output_shapes")
        if (
            shapes is None
            or output >= len(shapes.list.shape)
            or shapes.list.shape[output].unknown_rank
        ):
            return f"{name}:{output}"
        sizes = ("?" if d.size < 0 else str(d.size) for d in shapes.list.shape[output].dim)
        return f"{name}:{output} [{', '.join(sizes)}]"

    # ---- switches --------------------------------------------------------------------------

    def switches(self, given: Any) -> list[Switch]:
        """The training switches named, else those found; none if a constant was built in."""
        items = list(given) if isinstance(given, (list, tuple, set)) else [given]
        constants = [item for item in items if isinstance(item, bool)]
        if constants:
            self.notes.append(f"is_training: the constant {constants[0]}, nothing to switch")
        names = entry_points.names_of([i for i in items if i is not None and i not in constants])
        if not names:
            return self._find_switches() if self.layers and not constants else []
        found = []
        for name in names:
            tensor = entry_points.tensor_named(self.provenance.flat, name, "--is-training")
            if self.provenance.flat.nodes[tensor.node].op == "Const":
                self.notes.append(f"is_training: {name} is a constant, nothing to switch")
            else:
                deduced = entry_points.is_number(self.provenance, tensor) and self._switch(tensor)
                found.append(deduced or Switch(tensor))
        return found

    def folded(self, switches: Iterable[Switch], *, training: bool) -> Folding:
        """The graph with the switches at training or at inference."""
        assumed: dict[Tensor, Scalar] = {}
        for switch in switches:
            value = switch.training if training else switch.inference
            assumed |= entry_points.assumption(self.provenance, switch.tensor, value)
        return self.provenance.folded(assumed)

    def _find_switches(self) -> list[Switch]:
        """The inputs and variables that decide what some layer normalises with."""
        candidates = self._candidates
        if len(candidates) > _TRIED:
            self.notes.append(
                f"is_training: only {_TRIED} of {len(candidates)} inputs were tried as the switch"
            )
        found = [s for s in map(self._switch, candidates[:_TRIED]) if s is not None]
        if not found:
            self.notes.append("is_training: no switch was found; both modes are the same graph")
            return []
        shown = [self.provenance.nodes[s.tensor.node].name + ":0" + _meaning(s) for s in found]
        self.notes.append(f"is_training: {_some(shown)} (found; --is-training names others)")
        return found

    def _switch(self, candidate: Tensor) -> Switch | None:
        """The candidate with its two values, if these make a difference to some layer."""
        for one, two in entry_points.switch_values(self.provenance, candidate):
            tried = Switch(candidate, one, two)
            on, off = (self.folded([tried], training=t) for t in (True, False))
            if any(self._differs(layer, on, off) for layer in self.layers):
                means_training = self._means_training(tried, on, off)
                return tried if means_training else Switch(candidate, two, one)
        return None

    @functools.cached_property
    def _candidates(self) -> list[Tensor]:
        """The inputs and variables that may be switches."""
        return entry_points.switch_candidates(self.provenance)

    def _differs(self, layer: Layer, on: Folding, off: Folding) -> bool:
        """Tells whether the layer normalises in both, with other things or other updates."""
        one, two = self._used(layer, on), self._used(layer, off)
        if not one or not two:
            return False  # an input that leaves the layer out is no switch
        changes = self.provenance.variables.changes
        writes = [update.write for updates in layer.updates.values() for update in updates]
        return one != two or any(changes(w, on) != changes(w, off) for w in writes)

    def _used(self, layer: Layer, folding: Folding) -> set[object]:
        """The moments and averages that the layer normalises with under the folding."""
        found: set[object] = set()
        for site in layer.sites:
            if folding.runs(site.node):
                for tensor in [*site.means, *site.variances]:
                    made = self.provenance.sources(tensor, folding)
                    found |= {("moment", m) for m in made.moments}
                    found |= {("variable", v) for v in made.variables}
                if uses_batch(site, folding, self.provenance):
                    found.add(("site", site.node))
        return found

    def _means_training(self, switch: Switch, on: Folding, off: Folding) -> bool:
        """Tells whether the value is that of training: by its name, else by what it does."""
        name = self.provenance.flat.nodes[switch.tensor.node].name.lower()
        named_for_testing = any(word in name for word in _TEST_WORDS)
        named_for_training = any(word in name for word in _TRAIN_WORDS)
        if switch.training is True and named_for_training and not named_for_testing:
            return True

        def layers_on_batch(folding: Folding) -> int:
            return sum(
                any(uses_batch(site, folding, self.provenance) for site in layer.sites)
                for layer in self.layers
            )

        return layers_on_batch(on) >= layers_on_batch(off)


def _meaning(switch: Switch) -> str:
    """Says which value is training's, unless that goes without saying."""
    if switch.training is True:
        return ""
    if switch.training is False:
        return ", True meaning inference"
    return f", {switch.training:g} meaning training"


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (" ..." if len(names) > _SHOWN else "")
