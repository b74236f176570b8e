"""One batch normalisation, and the places and writes it consists of."""

from dataclasses import dataclass, field

from alexnet_tf1.batchnorm.graph.node import NodeId, Tensor, VariableId
from alexnet_tf1.batchnorm.graph.variables import Write


@dataclass
class Site:
    """One normalisation of one tensor x."""

    node: NodeId  # the operation that scales x (or the fused kernel)
    base: Tensor  # x, casts and reshapes peeled off
    means: list[Tensor] = field(default_factory=list)  # tensors subtracted from x as its mean
    variances: list[Tensor] = field(default_factory=list)  # tensors whose square root scales x
    # batch moments of x among their sources, in any branch
    moments: set[Tensor] = field(default_factory=set)
    # variables among their sources, in any branch
    mean_variables: set[VariableId] = field(default_factory=set)
    variance_variables: set[VariableId] = field(default_factory=set)
    # variables that scale and shift the normalised x (gamma, beta)
    affine: set[VariableId] = field(default_factory=set)
    weights: frozenset[VariableId] = frozenset()  # variables of the operation that made x


@dataclass
class Update:
    """A write whose value comes from batch moments."""

    write: Write  # the write
    moments: set[Tensor] = field(default_factory=set)  # the batch moments it comes from
    # other variables that the value passes through on its way, such as the biased average from
    # which a zero-debiased one is made
    through: set[VariableId] = field(default_factory=set)


@dataclass
class Layer:
    """One batch normalisation, wherever the graph applies it."""

    sites: list[Site]  # the places where it normalises
    # batch moments it normalises with, in any branch
    moments: set[Tensor] = field(default_factory=set)
    # variables kept as its moving averages, in the order of the graph
    averages: list[VariableId] = field(default_factory=list)
    # each average's writes that come from the layer's batch moments
    updates: dict[VariableId, list[Update]] = field(default_factory=dict)
    # variables that only serve to make an average (zero debiasing)
    auxiliary: set[VariableId] = field(default_factory=set)
    # variables read as mean and as variance
    mean_variables: set[VariableId] = field(default_factory=set)
    variance_variables: set[VariableId] = field(default_factory=set)
    affine: set[VariableId] = field(default_factory=set)  # gamma and beta
    name: str = ""  # what a person would call it

    @property
    def stored(self) -> set[VariableId]:
        """Variables read as mean or variance."""
        return self.mean_variables | self.variance_variables
