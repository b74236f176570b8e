"""Finds what keeps the variables of a layer up to date that training does not normalise with."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alexnet_tf1.batchnorm.graph.node import VariableId
    from alexnet_tf1.batchnorm.graph.variables import Write
    from alexnet_tf1.batchnorm.layers.layer import Layer
    from alexnet_tf1.batchnorm.rules.evidence import Evidence


def has_update(variable: VariableId, evidence: Evidence) -> bool:
    """Tells whether anything but initialisation, restoring and feeding writes the variable."""
    provenance = evidence.provenance
    for write in evidence.variables.writes.get(variable, ()):
        if write.value is None:
            return True
        computed = provenance.tainted[write.value.node] == 1
        origin = provenance.nodes[provenance.peel(write.value).node].op
        if computed and origin.startswith(("Placeholder", "Random", "Truncated")):
            continue
        others = provenance.sources(write.value).variables - {variable}
        if (computed or others) and (
            evidence.variables.changes(write, evidence.training)
            or evidence.variables.changes(write, evidence.inference)
        ):
            return True
    return False


def parameters(layer: Layer) -> list[VariableId]:
    """The layer's scale and shift, and the weights of the operation that feeds it."""
    return sorted(layer.affine.union(*(site.weights for site in layer.sites)))


def is_trained(variable: VariableId, evidence: Evidence) -> bool:
    """Tells whether an optimiser, a step written by hand or a copy of another writes it."""
    return any(
        write.value is None
        or evidence.provenance.is_computed(write.value)
        or evidence.provenance.sources(write.value).variables - {variable}
        for write in evidence.variables.writes.get(variable, ())
        if not _is_initial(write, evidence)
    )


def _is_initial(write: Write, evidence: Evidence) -> bool:
    initial = f"{evidence.variables.names[write.variable]}/Assign"
    return evidence.provenance.nodes[write.node].name == initial


def copies_into(layer: Layer, evidence: Evidence) -> list[Write]:
    """The writes that set or blend the layer's parameters from another layer's."""
    return [
        write
        for variable in parameters(layer)
        for write in evidence.variables.writes.get(variable, ())
        if _originals(write, layer, evidence)
    ]


def original(layer: Layer, evidence: Evidence) -> Layer | None:
    """The layer whose parameters are copied into this one, as an online network's are."""
    for write in copies_into(layer, evidence):
        for other in _originals(write, layer, evidence):
            if len(other.averages) == len(layer.averages):
                return other
    return None


def _originals(write: Write, layer: Layer, evidence: Evidence) -> list[Layer]:
    provenance = evidence.provenance
    if write.value is None or provenance.tainted[write.value.node] or _is_initial(write, evidence):
        return []
    taken = provenance.sources(write.value).variables - set(parameters(layer))
    return [x for x in evidence.layers if x is not layer and not taken.isdisjoint(parameters(x))]


def twin(layer: Layer, evidence: Evidence) -> Layer | None:
    """The layer of another scope that is called the same, is as large, and is trained."""
    for other in evidence.layers:
        same = _last(other) == _last(layer) and _sizes(other, evidence) == _sizes(layer, evidence)
        if other is not layer and same and evidence.trains_on_batch(other):
            return other
    return None


def _last(layer: Layer) -> str:
    return layer.name.rpartition("/")[2]


def _sizes(layer: Layer, evidence: Evidence) -> list[str]:
    shapes = (evidence.provenance.nodes[v].attr("shape") for v in layer.averages)
    return [str(shape) for shape in shapes]


def follows_copies(layer: Layer, evidence: Evidence) -> bool:
    """Tells whether all averages are kept by copies of others, and none by the layer's moments."""
    kept = bool(layer.stored) and not layer.updates
    return kept and all(has_update(v, evidence) for v in layer.stored)


def is_left_alone(layer: Layer, evidence: Evidence) -> bool:
    """Tells whether the graph does no more with the layer's variables than restore them."""
    return not (
        evidence.trains(layer)
        or any(has_update(v, evidence) for v in layer.averages)
        or any(is_trained(v, evidence) for v in parameters(layer))
    )
