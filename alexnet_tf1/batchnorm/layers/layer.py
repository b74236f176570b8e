"""One batch normalisation, and the places and writes it consists of."""

from __future__ import annotations

from dataclasses import dataclass, field

from alexnet_tf1.batchnorm.graph.node import NodeId, Tensor, VariableId
from alexnet_tf1.batchnorm.graph.variables import Write


@dataclass
class Site:
    """One normalisation of one tensor x.

    Attributes:
      node: the operation that scales x (or the fused kernel).
      base: x, casts and reshapes peeled off.
      means: tensors subtracted from x as its mean.
      variances: tensors whose square root scales x.
      moments: batch moments of x among their sources, in any branch.
      mean_variables, variance_variables: variables among their sources, in any branch.
      affine: variables that scale and shift the normalised x (gamma, beta).
      weights: variables of the operation that made x.
    """

    node: NodeId
    base: Tensor
    means: list[Tensor] = field(default_factory=list)
    variances: list[Tensor] = field(default_factory=list)
    moments: set[Tensor] = field(default_factory=set)
    mean_variables: set[VariableId] = field(default_factory=set)
    variance_variables: set[VariableId] = field(default_factory=set)
    affine: set[VariableId] = field(default_factory=set)
    weights: frozenset[VariableId] = frozenset()


@dataclass
class Update:
    """A write whose value comes from batch moments.

    Attributes:
      write: the write.
      moments: the batch moments it comes from.
      through: other variables that the value passes through on its way, such as the
        biased average from which a zero-debiased one is made.
    """

    write: Write
    moments: set[Tensor] = field(default_factory=set)
    through: set[VariableId] = field(default_factory=set)


@dataclass
class Layer:
    """One batch normalisation, wherever the graph applies it.

    Attributes:
      sites: the places where it normalises.
      moments: batch moments it normalises with, in any branch.
      averages: variables kept as its moving averages, in the order of the graph.
      updates: each average's writes that come from the layer's batch moments.
      auxiliary: variables that only serve to make an average (zero debiasing).
      mean_variables, variance_variables: variables read as mean and as variance.
      affine: gamma and beta.
      name: what a person would call it.
    """

    sites: list[Site]
    moments: set[Tensor] = field(default_factory=set)
    averages: list[VariableId] = field(default_factory=list)
    updates: dict[VariableId, list[Update]] = field(default_factory=dict)
    auxiliary: set[VariableId] = field(default_factory=set)
    mean_variables: set[VariableId] = field(default_factory=set)
    variance_variables: set[VariableId] = field(default_factory=set)
    affine: set[VariableId] = field(default_factory=set)
    name: str = ""

    @property
    def stored(self) -> set[VariableId]:
        """Variables read as mean or variance."""
        return self.mean_variables | self.variance_variables
