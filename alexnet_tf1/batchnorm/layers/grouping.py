"""Joins sites that share their averages or parameters into layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from alexnet_tf1.batchnorm.graph.node import Tensor, VariableId
from alexnet_tf1.batchnorm.layers.layer import Layer, Site, Update
from alexnet_tf1.batchnorm.layers.naming import name_layers
from alexnet_tf1.batchnorm.layers.provenance import Provenance
from alexnet_tf1.batchnorm.layers.sites import find_sites
from alexnet_tf1.batchnorm.layers.updates import find_updates


def find_layers(provenance: Provenance, trainable: set[VariableId]) -> list[Layer]:
    """Every batch normalisation of the graph.

    Args:
      provenance: the graph, unfolded.
      trainable: variables that are trained, which are never averages.

    Returns:
      The layers in the order of the graph, named.
    """
    sites = find_sites(provenance)
    unfit = trainable | _numbers(provenance)
    for site in sites:
        site.mean_variables -= unfit
        site.variance_variables -= unfit
    sites = [s for s in sites if s.moments or (s.variance_variables and s.mean_variables)]
    by_moment: dict[Tensor, list[Update]] = {}
    updates = [u for u in find_updates(provenance) if u.write.variable not in unfit]
    for update in updates:
        for moment in update.moments:
            by_moment.setdefault(moment, []).append(update)
    groups = _grouped(sites, lambda site: _keys(site, by_moment))
    layers = [_layer(group) for group in groups]
    layers = _linked(layers, by_moment)
    layers.sort(key=lambda layer: min(provenance.nodes[site.node].place for site in layer.sites))
    taken = {m for layer in layers for m in layer.moments}
    for layer in layers:
        _add_averages(layer, by_moment, taken, provenance)
    name_layers(layers, provenance)
    return layers


def _numbers(provenance: Provenance) -> set[VariableId]:
    """Variables that hold a single number, such as a count: averages hold one a channel."""
    found: set[VariableId] = set()
    for variable in provenance.variables.names:
        shape = provenance.nodes[variable].attr("shape")
        if shape is not None and not shape.shape.unknown_rank and not shape.shape.dim:
            found.add(variable)
    return found


def _keys(site: Site, by_moment: dict[Tensor, list[Update]]) -> Iterable[tuple[str, object]]:
    for variable in site.mean_variables | site.variance_variables:
        yield ("variable", variable)
    for moment in site.moments:
        yield ("moment", moment)
        for update in by_moment.get(moment, ()):
            yield ("variable", update.write.variable)


def _grouped(
    sites: list[Site], keys: Callable[[Site], Iterable[tuple[str, object]]]
) -> list[list[Site]]:
    """Sites joined, directly or through others, by a key they share."""
    parent = list(range(len(sites)))

    def find(k: int) -> int:
        while parent[k] != k:
            parent[k] = parent[parent[k]]
            k = parent[k]
        return k

    owner: dict[tuple[str, object], int] = {}
    for k, site in enumerate(sites):
        for key in keys(site):
            parent[find(k)] = find(owner.setdefault(key, k))
    groups: dict[int, list[Site]] = {}
    for k, site in enumerate(sites):
        groups.setdefault(find(k), []).append(site)
    return sorted(groups.values(), key=lambda group: group[0].node)


def _layer(sites: list[Site]) -> Layer:
    layer = Layer(sites)
    for site in sites:
        layer.moments |= site.moments
        layer.mean_variables |= site.mean_variables
        layer.variance_variables |= site.variance_variables
        layer.affine |= site.affine
    layer.affine -= layer.stored
    return layer


def _linked(layers: list[Layer], by_moment: dict[Tensor, list[Update]]) -> list[Layer]:
    """Joins what normalises with the batch and what normalises with averages.

    A layer whose averages nothing updates falls apart into these two, or into one for
    each of its calls: no average links them. Its parameters do, or its input, or the
    weights that made its input.
    """

    def is_bare(layer: Layer) -> bool:
        return not layer.stored and not any(m in by_moment for m in layer.moments)

    bare = [layer for layer in layers if layer.moments and is_bare(layer)]
    rest = [layer for layer in layers if not (layer.moments and is_bare(layer))]
    bare = _joined(bare, lambda a, b: bool(a.affine) and a.affine == b.affine)
    averaged = [layer for layer in rest if layer.stored]
    kept: list[Layer] = []
    for layer in bare:
        for is_twin in (_share_affine, _share_input, _share_weights):
            twin = next((other for other in averaged if is_twin(layer, other)), None)
            if twin is not None:
                _absorb(twin, layer)
                break
        else:
            kept.append(layer)
    return sorted([*rest, *kept], key=lambda layer: layer.sites[0].node)


def _joined(layers: list[Layer], same: Callable[[Layer, Layer], bool]) -> list[Layer]:
    kept: list[Layer] = []
    for layer in layers:
        twin = next((other for other in kept if same(layer, other)), None)
        if twin is None:
            kept.append(layer)
        else:
            _absorb(twin, layer)
    return kept


def _share_affine(one: Layer, two: Layer) -> bool:
    return bool(one.affine & two.affine)


def _share_input(one: Layer, two: Layer) -> bool:
    if one.affine and two.affine:
        return False
    return bool({site.base for site in one.sites} & {site.base for site in two.sites})


def _share_weights(one: Layer, two: Layer) -> bool:
    if (one.affine and two.affine) or two.moments:
        return False
    weights = {site.weights for site in one.sites if site.weights}
    return any(site.weights in weights for site in two.sites)


def _absorb(layer: Layer, other: Layer) -> None:
    layer.sites = sorted([*layer.sites, *other.sites], key=lambda site: site.node)
    layer.moments |= other.moments
    layer.affine |= other.affine
    layer.mean_variables |= other.mean_variables
    layer.variance_variables |= other.variance_variables


def _add_averages(
    layer: Layer, by_moment: dict[Tensor, list[Update]], taken: set[Tensor], provenance: Provenance
) -> None:
    """Finds the layer's averages and their updates."""
    found = {id(u): u for m in layer.moments for u in by_moment.get(m, ())}
    bases = {site.base for site in layer.sites if site.moments}
    # The moments to be averaged may have been computed a second time, from the same x.
    for moment, updates in by_moment.items():
        if moment not in taken and provenance.moment(moment).base in bases:
            for update in updates:
                if update.write.variable in layer.stored or not found:
                    found[id(update)] = update
    for updates in by_moment.values():  # of other moments than the layer's own
        found |= {id(u): u for u in updates if u.write.variable in layer.stored}
    through = {v for u in found.values() for v in u.through} - layer.stored
    for update in found.values():
        if update.through & layer.stored and update.write.variable not in layer.stored:
            continue  # an average of the averages, such as a model's weight averages
        if update.write.variable not in through:
            layer.updates.setdefault(update.write.variable, []).append(update)
    layer.auxiliary = through
    layer.averages = sorted(set(layer.updates) | layer.stored)
    layer.affine -= set(layer.averages) | through
