"""Names each layer as a person would: after the scope of its variables."""

from collections import Counter
from collections.abc import Sequence

from alexnet_tf1.batchnorm.layers.layer import Layer
from alexnet_tf1.batchnorm.layers.provenance import Provenance

_ANONYMOUS = ("batchnorm", "moments", "then", "else")  # scopes that say nothing of whose


def name_layers(layers: list[Layer], provenance: Provenance) -> None:
    """Names each layer after the scope of its variables, else of its operations."""
    candidates = [_candidates(layer, provenance) for layer in layers]
    used: dict[str, int] = {}
    firsts = Counter(names[0] for names in candidates)
    for layer, names in zip(layers, candidates, strict=True):
        firsts[names[0]] -= 1  # what is left are the others'
        layer.name = next((n for n in names if not firsts[n] and n not in used), names[-1])
        firsts[names[0]] += 1
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
            outer, _, last = scope.rpartition("/")
            found += [outer if last.split("_")[0] == "moments" else scope, scope]
        stem = averages[0][: _common(averages)].rstrip("/_-.")
        found.append(stem if len(averages) > 1 and stem else averages[0])
    elif affine:
        found.append(_scope(affine))
    operation = provenance.nodes[layer.sites[0].node].name
    scope = operation.rpartition("/")[0]
    while scope.rpartition("/")[2] in _ANONYMOUS and "/" in scope:
        scope = scope.rpartition("/")[0]
    return [name for name in (*found, scope, operation) if name]


def _scope(names: list[str]) -> str:
    """The innermost scope that holds all the names; empty if none does."""
    parts = [name.split("/")[:-1] for name in names]
    return "/".join(parts[0][: _common(parts)])


def _common(sequences: Sequence[Sequence[str]]) -> int:
    """Counts the elements that all sequences begin with."""
    levels = enumerate(zip(*sequences, strict=False))
    shortest = min(map(len, sequences))
    return next((k for k, level in levels if len(set(level)) > 1), shortest)
