"""Settles what is audited: the training ops, the logits, the switch; as named, else as found."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from alexnet_tf1.batchnorm import entry_points
from alexnet_tf1.batchnorm.graph.fold import Folding
from alexnet_tf1.batchnorm.graph.load import GraphSource
from alexnet_tf1.batchnorm.graph.node import NodeId, Tensor
from alexnet_tf1.batchnorm.layers.layer import Layer
from alexnet_tf1.batchnorm.layers.provenance import Provenance
from alexnet_tf1.batchnorm.layers.sites import uses_batch
from alexnet_tf1.batchnorm.rules import registry
from alexnet_tf1.errors import UserError

_TRAIN_WORDS = ("train", "learning_phase", "is_tr", "phase")
_TEST_WORDS = ("test", "infer", "eval", "predict", "deterministic")
_TRIED = 24  # each input that is tried as the switch costs two foldings of the graph
_SHOWN = 4


class Switch(NamedTuple):
    """A tensor that says whether the network trains."""

    tensor: Tensor  # the tensor or the variable
    training: bool  # its value in training


@dataclass
class Choices:
    """Chooses in one graph, and notes what was chosen for the caller."""

    source: GraphSource
    provenance: Provenance
    layers: list[Layer]
    # what was found, and what cannot be checked for want of it
    notes: list[str] = field(default_factory=list)

    def logits(self, given: Any) -> list[Tensor]:
        """The logits named, else those found; none are needed where nothing is normalised."""
        names = entry_points.names_of(given)
        if not names and self.layers:
            names = entry_points.find_logits(self.source, self.provenance)
            self.notes.append(f"logits: {', '.join(names)} (found; --logits names others)")
        return [entry_points.tensor_named(self.provenance.flat, name, "--logits") for name in names]

    def train_ops(self, given: Any, training: Folding) -> tuple[list[NodeId], str]:
        """The nodes to start training from, and what messages call them."""
        names = entry_points.names_of(given)
        if given is None and self.layers:
            names = entry_points.find_train_ops(self.source, self.provenance)
            if names:
                shown = ", ".join(names[:_SHOWN]) + (" ..." if len(names) > _SHOWN else "")
                self.notes.append(f"training ops: {shown} (found; --train-op names others)")
            else:
                self._accept_no_training(training)
                self._note_unchecked("the graph holds no training op")
        elif not names and self.layers:
            self._note_unchecked("no training op was given")
        nodes = entry_points.run_nodes(self.provenance.flat, names, "--train-op")
        return nodes, names[0].partition(":")[0] if len(names) == 1 else "any of the training ops"

    def _accept_no_training(self, training: Folding) -> None:
        """An inference graph lacks a training op; a graph whose layers learn must have one."""
        writes = (u.write for layer in self.layers for us in layer.updates.values() for u in us)
        if not self.source.inference_only and any(
            self.provenance.variables.changes(write, training) for write in writes
        ):
            raise UserError(
                "no training op was found, though the graph updates moving averages; "
                "name it with --train-op"
            )

    def _note_unchecked(self, why: str) -> None:
        self.notes.append(f"{why}: {registry.identifiers('training')} were not checked")

    def switches(self, given: Any) -> list[Switch]:
        """The training switches named, else the one found; none if a constant was built in."""
        if isinstance(given, bool):
            self.notes.append(f"is_training: the constant {given}, nothing to switch")
            return []
        names = entry_points.names_of(given)
        if not names:
            return self._find_switch() if self.layers else []
        found = []
        for name in names:
            tensor = entry_points.tensor_named(self.provenance.flat, name, "--is-training")
            if self.provenance.flat.nodes[tensor.node].op == "Const":
                self.notes.append(f"is_training: {name} is a constant, nothing to switch")
            else:
                found.append(Switch(tensor, True))
        return found

    def folded(self, switches: list[Switch], *, training: bool) -> Folding:
        """The graph with the switches at training or at inference."""
        assumed: dict[Tensor, bool] = {}
        for switch in switches:
            value = switch.training == training
            assumed |= entry_points.assumption(self.provenance, switch.tensor, value)
        return self.provenance.folded(assumed)

    def _find_switch(self) -> list[Switch]:
        """The one input or variable that decides what the layers do."""
        found = []
        candidates = entry_points.switch_candidates(self.provenance)
        for candidate in candidates[:_TRIED]:
            on, off = (self.folded([Switch(candidate, True)], training=t) for t in (True, False))
            if self._behaviour(on) != self._behaviour(off):
                found.append(Switch(candidate, self._means_training(candidate, on, off)))
        names = [f"{self.provenance.flat.nodes[switch.tensor.node].name}:0" for switch in found]
        if len(found) > 1:
            raise UserError(
                "several inputs switch batch normalisation; choose with --is-training: "
                + ", ".join(names)
            )
        if len(candidates) > _TRIED:
            self.notes.append(
                f"is_training: only {_TRIED} of {len(candidates)} inputs were tried as the switch"
            )
        if not found:
            self.notes.append("is_training: no switch was found; both modes are the same graph")
            return []
        meaning = "" if found[0].training else ", True meaning inference"
        self.notes.append(f"is_training: {names[0]} (found{meaning}; --is-training names others)")
        return found

    def _behaviour(self, folding: Folding) -> list[Any]:
        """Describes what every layer does under the folding, to be compared with another."""
        provenance = self.provenance
        seen: list[Any] = []
        for layer in self.layers:
            for site in layer.sites:
                runs = folding.runs(site.node)
                used = [*site.means, *site.variances] if runs else []
                made = [provenance.sources(tensor, folding) for tensor in used]
                seen.append((runs, [(s.moments, s.variables) for s in made]))
            for updates in layer.updates.values():
                seen.extend(provenance.variables.changes(u.write, folding) for u in updates)
        return seen

    def _means_training(self, switch: Tensor, on: Folding, off: Folding) -> bool:
        """Tells whether True means training: by the name if it says so, else by what it does."""
        name = self.provenance.flat.nodes[switch.node].name.lower()
        named_for_testing = any(word in name for word in _TEST_WORDS)
        if not named_for_testing and any(word in name for word in _TRAIN_WORDS):
            return True

        def layers_on_batch(folding: Folding) -> int:
            return sum(
                any(uses_batch(site, folding, self.provenance) for site in layer.sites)
                for layer in self.layers
            )

        return layers_on_batch(on) >= layers_on_batch(off)
