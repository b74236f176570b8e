"""The evidence that rules look at: all they may ask of a graph or of a checkpoint."""

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
    """Everything that is known of a graph."""

    provenance: Provenance  # what tensors are made of, in the unfolded graph
    training: Folding  # the graph with the switch at training
    inference: Folding  # and at inference
    trained: set[NodeId]  # what the training ops run in training; empty without a training op
    read: set[Tensor]  # what the logits depend on in inference
    run: set[NodeId]  # what computing the logits runs in inference
    train_name: str  # the training op, for messages
    collected: set[NodeId]  # what running the UPDATE_OPS collection would run

    def __post_init__(self) -> None:
        self.variables = self.provenance.variables  # their reads and writes
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
        sites = [site for site in layer.sites if site.node in self.read_nodes]
        used = [tensor for site in sites for tensor in (*site.means, *site.variances)]
        made = [self.provenance.sources(tensor, self.inference).variables for tensor in used]
        return [v for v in layer.averages if any(v in variables for variables in made)]

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
