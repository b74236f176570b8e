"""The evidence that rules look at: all they may ask of a graph or of a checkpoint."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from alexnet_tf1.batchnorm.checkpoint.progress import has_begun
from alexnet_tf1.batchnorm.checkpoint.statistics import any_has_moved
from alexnet_tf1.batchnorm.graph.fold import Folding
from alexnet_tf1.batchnorm.graph.followers import Followers
from alexnet_tf1.batchnorm.graph.node import NodeId, Tensor, VariableId
from alexnet_tf1.batchnorm.graph.variables import Write
from alexnet_tf1.batchnorm.layers.layer import Layer
from alexnet_tf1.batchnorm.layers.provenance import Provenance
from alexnet_tf1.batchnorm.layers.sites import uses_batch
from alexnet_tf1.batchnorm.rules.wording import listed
from alexnet_tf1.checkpoint.reader import Checkpoint


@dataclass
class Evidence:
    """Everything that is known of a graph."""

    provenance: Provenance  # what tensors are made of, in the unfolded graph
    training: Folding  # the graph with the switch at training
    inference: Folding  # and at inference
    layers: list[Layer]  # all batch normalisations
    judged: set[str]  # the names of those whose inference is in the graph
    steps: list[set[NodeId]]  # what each training op runs in training
    read: set[Tensor]  # what the logits depend on in inference
    run: set[NodeId]  # what computing the logits runs in inference
    train_name: str  # the training op, for messages
    collected: set[NodeId]  # what running the UPDATE_OPS collection would run
    followers: Followers  # what runs after an operation
    # the variables that the graph's Savers save, by their names in the checkpoint
    saved: dict[str, VariableId]
    checkpoint: str | None  # the prefix of the checkpoint beside the graph
    # takes the names of the layers that are frozen on purpose, by how that is known
    frozen: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        self.variables = self.provenance.variables  # their reads and writes
        self.trained: set[NodeId] = set().union(*self.steps)
        self.read_nodes = {t.node for t in self.read}
        reading, write_of = self.variables.reading, self.variables.write_of
        direct = {reading[n] for n in self.read_nodes if n in reading}
        direct |= {write_of[n].variable for n in self.read_nodes if n in write_of}

        def step(variable: VariableId) -> Iterable[VariableId]:
            for write in self.variables.writes.get(variable, ()):
                if write.value is not None:
                    yield from self.provenance.sources(write.value).variables

        # Those whose values the logits depend on, directly or through others.
        self.read_variables = set(self.provenance.flat.walks.reach(direct, step))

    def trains(self, layer: Layer) -> bool:
        """Tells whether training runs the layer."""
        return any(site.node in self.trained for site in layer.sites)

    def is_moved(self, layer: Layer, step: Collection[NodeId]) -> bool:
        """Tells whether these nodes change an average of the layer in training."""
        return any(
            write.node in step and self.variables.changes(write, self.training)
            for variable in layer.averages
            for write in self.variables.writes.get(variable, ())
        )

    def nobody_reads(self, layer: Layer) -> bool:
        """Tells whether the averages are of no use: inference is known and needs no such layer.

        What is copied into the averages of a layer that inference runs is of use.
        """
        is_used = self.infers(layer) or not self.read_variables.isdisjoint(layer.averages)
        return bool(self.read) and not layer.stored and not is_used

    def trains_on_batch(self, layer: Layer) -> bool:
        """Tells whether training normalises the layer with batch statistics: it is not frozen."""
        return any(
            site.node in self.trained and uses_batch(site, self.training, self.provenance)
            for site in layer.sites
        )

    def can_run_in_training(self, nodes: Iterable[NodeId]) -> bool:
        """Tells whether these can run with what is fed to the training ops."""
        return not self._in_need.intersection(nodes)

    @functools.cached_property
    def _in_need(self) -> set[NodeId]:
        """All nodes that need something fed which the training ops do not need."""
        nodes = self.provenance.nodes
        after: dict[NodeId, list[NodeId]] = {}
        for node in nodes:
            for before in (*node.controls, *(t.node for t in node.inputs)):
                after.setdefault(before, []).append(node.id)
        fed = (node.id for node in nodes if node.op == "Placeholder")
        missing = [n for n in fed if n not in self.trained and self.training.runs(n)]
        walks = self.provenance.flat.walks
        return set(walks.reach(missing, lambda node: after.get(node, ())))

    def has_moved(self, averages: Iterable[VariableId]) -> bool:
        """Tells whether the checkpoint beside the graph holds averages that were updated."""
        if self.checkpoint is None:
            return False
        keys = {variable: key for key, variable in self.saved.items()}
        return any_has_moved(
            self.checkpoint, [keys.get(v, self.variables.names[v]) for v in averages]
        )

    def infers(self, layer: Layer) -> bool:
        """Tells whether the logits pass through the layer."""
        return any(site.node in self.read_nodes for site in layer.sites)

    def stored_in_inference(self, layer: Layer) -> list[VariableId]:
        """Averages that the logits are normalised with, in the order of the graph."""
        sites = [site for site in layer.sites if site.node in self.read_nodes]
        used = [tensor for site in sites for tensor in (*site.means, *site.variances)]
        made = [self.provenance.sources(tensor, self.inference).variables for tensor in used]
        return [v for v in layer.averages if any(v in variables for variables in made)]

    def inferred_with(self, layer: Layer) -> list[VariableId]:
        """Averages that inference reads; where the graph has no inference, those kept for it."""
        found = self.stored_in_inference(layer)
        if found or layer.name in self.judged or self.nobody_reads(layer):
            return found
        return [v for v in layer.averages if v in layer.updates]

    def is_gradient(self, name: str) -> bool:
        """Tells whether a top-level operation belongs to a gradient: no loop runs it by name."""
        first = self.provenance.flat.run_nodes(name)[0]
        return self.provenance.is_gradient(self.provenance.nodes[first])

    def names(self, variables: Iterable[VariableId]) -> str:
        """The variables' names: "a, b and c"."""
        return listed([self.variables.names[v] for v in variables])

    def ops(self, writes: Iterable[Write]) -> str:
        """The writes' names, or those of the calls they lie in: what a person can refer to."""
        found: dict[str, None] = {}
        for write in writes:
            name = self.provenance.nodes[write.node].name
            while name not in self.provenance.flat.top and "/" in name:
                name = name.rpartition("/")[0]
            found[name] = None
        return listed(list(found))


@dataclass
class CheckpointEvidence:
    """Everything that is known of a checkpoint beside its layers."""

    checkpoint: Checkpoint
    steps: int | None  # of the step counter
    # of an average, by its name in the checkpoint, the share that one training step keeps of the
    # old value, where the graph beside the checkpoint tells
    decays: dict[str, float]
    # layers whose averages nothing in that graph updates, and whether they ever use their batch
    without_update: dict[str, bool]
    run: str | None  # the folder, if the checkpoint is one of a run of this program
    has_graph: bool  # whether there is a graph beside the checkpoint
    notes: list[str] = field(default_factory=list)  # takes oddities that are no faults

    @functools.cached_property
    def has_begun(self) -> bool | None:
        """Tells whether a training step was made; None if nothing tells."""
        return has_begun(self.checkpoint, self.steps)

    def repair(self) -> str:
        """Says how to re-estimate the statistics, the weights being as good as they are."""
        if self.run is not None:
            return f"repair this checkpoint with `alexnet-tf1 recalibrate {self.run}`"
        if self.has_graph:
            return (
                f"repair this checkpoint with `alexnet-tf1 recalibrate {self.checkpoint.prefix} "
                "--feed NAME=FILE.npy --out NEW_PREFIX`"
            )
        return (
            "repair this checkpoint: restore it, run the update ops alone on some hundred "
            "training batches, and save"
        )
