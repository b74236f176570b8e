"""The evidence that rules look at: all they may ask of a graph or of a checkpoint."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from alexnet_tf1.batchnorm.checkpoint.statistics import Steps
from alexnet_tf1.batchnorm.graph.fold import Folding
from alexnet_tf1.batchnorm.graph.node import NodeId, Tensor, VariableId
from alexnet_tf1.batchnorm.graph.variables import Write
from alexnet_tf1.batchnorm.layers.layer import Layer
from alexnet_tf1.batchnorm.layers.provenance import Provenance
from alexnet_tf1.batchnorm.layers.sites import uses_batch
from alexnet_tf1.batchnorm.rules.wording import listed


@dataclass
class Evidence:
    """Everything that is known of a graph.

    Attributes:
      provenance: what tensors are made of, in the unfolded graph.
      variables: the graph's variables, their reads and writes.
      training, inference: the graph with the switch at training and at inference.
      trained: nodes that the training ops run in training; empty without a training op.
      read: tensors that the logits depend on in inference.
      read_nodes: the nodes of `read`.
      read_variables: variables whose values the logits depend on, directly or through others.
      run: nodes that computing the logits runs in inference.
      train_name: the training op's name, for messages.
      collected: nodes that running the UPDATE_OPS collection would run.
    """

    provenance: Provenance
    training: Folding
    inference: Folding
    trained: set[NodeId]
    read: set[Tensor]
    run: set[NodeId]
    train_name: str
    collected: set[NodeId]

    def __post_init__(self) -> None:
        self.variables = self.provenance.variables
        self.read_nodes = {t.node for t in self.read}
        self.read_variables = self._read_variables()

    def _read_variables(self) -> set[VariableId]:
        variables = self.variables
        direct = {variables.reading[n] for n in self.read_nodes if n in variables.reading}
        direct |= {
            variables.write_of[n].variable for n in self.read_nodes if n in variables.write_of
        }

        def step(variable: VariableId) -> Iterable[VariableId]:
            for write in variables.writes.get(variable, ()):
                if write.value is not None:
                    yield from self.provenance.sources(write.value).variables

        return set(self.provenance.flat.walks.reach(direct, step))

    # ---- a layer -----------------------------------------------------------------------

    def trains_on_batch(self, layer: Layer) -> bool:
        """Tells whether training normalises the layer with batch statistics: it is not frozen."""
        return any(
            site.node in self.trained and uses_batch(site, self.training, self.provenance)
            for site in layer.sites
        )

    def infers(self, layer: Layer) -> bool:
        """Tells whether the logits pass through the layer."""
        return any(site.node in self.read_nodes for site in layer.sites)

    def stored_in_inference(self, layer: Layer) -> list[VariableId]:
        """Averages that the logits are normalised with, in the order of the graph."""
        found: set[VariableId] = set()
        for site in layer.sites:
            if site.node in self.read_nodes:
                for tensor in [*site.means, *site.variances]:
                    found |= self.provenance.sources(tensor, self.inference).variables
        return [v for v in layer.averages if v in found]

    # ---- words for messages --------------------------------------------------------------

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

    steps: Steps | None  # how long was trained; None if the checkpoint does not tell
    notes: list[str] = field(default_factory=list)  # takes oddities that are no faults
