"""Names each layer as a person would: after the scope of its variables."""

from __future__ import annotations

from alexnet_tf1.batchnorm.layers.layer import Layer
from alexnet_tf1.batchnorm.layers.provenance import Provenance

_ANONYMOUS = ("batchnorm", "moments", "then", "else")  # scopes that say nothing of whose


def name_layers(layers: list[Layer], provenance: Provenance) -> None:
    """Names each layer after the scope of its variables, else of its operations."""
    candidates = [_candidates(layer, provenance) for layer in layers]
    used: dict[str, int] = {}
    for layer, names in zip(layers, candidates, strict=True):
        others = [c for c in candidates if c is not names]
        firsts = {c[0] for c in others}
        layer.name = next((n for n in names if n not in firsts and n not in used), names[-1])
        if layer.name in used:
            used[layer.name] += 1
            layer.name = f"{layer.name} ({used[layer.name]})"
        used.setdefault(layer.name, 1)


def _candidates(layer: Layer, provenance: Provenance) -> list[str]:
    averages = [provenance.variables.names[v] for v in layer.averages]
    affine = [provenance.variables.names[v] for v in sorted(layer.affine)]
    found = []
    if averages:
        for names in (averages + affine, averages):
            scope = _scope(names)
            if scope:
                found.append(_without_moments_scope(scope))
                found.append(scope)
        stem = _stem(averages).rstrip("/_-.")
        if len(averages) > 1 and stem:
            found.append(stem)
        else:
            found.append(averages[0])
    elif affine:
        scope = _scope(affine)
        if scope:
            found.append(scope)
    operation = provenance.nodes[layer.sites[0].node].name
    scope = operation.rpartition("/")[0]
    while scope.rpartition("/")[2] in _ANONYMOUS and "/" in scope:
        scope = scope.rpartition("/")[0]
    found.extend(name for name in (scope, operation) if name)
    return [name for name in found if name]


def _scope(names: list[str]) -> str:
    """The innermost scope that holds all the names; empty if none does."""
    parts = [name.split("/")[:-1] for name in names]
    common = []
    for level in zip(*parts, strict=False):
        if len(set(level)) > 1:
            break
        common.append(level[0])
    return "/".join(common)


def _stem(names: list[str]) -> str:
    """The letters that all names begin with."""
    first, last = min(names), max(names)
    length = next((k for k, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), None)
    return first if length is None else first[:length]


def _without_moments_scope(scope: str) -> str:
    outer, _, last = scope.rpartition("/")
    return outer if outer and last.split("_")[0] == "moments" else scope
