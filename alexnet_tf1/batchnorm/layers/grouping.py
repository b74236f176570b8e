"""Joins sites that share their averages or parameters into layers."""

from collections.abc import Callable

from alexnet_tf1.batchnorm.graph.node import Tensor, VariableId
from alexnet_tf1.batchnorm.graph.shapes import declared_rank
from alexnet_tf1.batchnorm.graph.walk import Walks
from alexnet_tf1.batchnorm.layers.layer import Layer, Site, Update
from alexnet_tf1.batchnorm.layers.naming import name_layers
from alexnet_tf1.batchnorm.layers.provenance import Provenance
from alexnet_tf1.batchnorm.layers.sites import find_sites
from alexnet_tf1.batchnorm.layers.updates import find_updates


def find_layers(provenance: Provenance, trainable: set[VariableId]) -> list[Layer]:
    """Every batch normalisation of the graph, named, in the order of the graph.

    Variables that are trained are never averages.
    """
    sites = find_sites(provenance)
    unfit = trainable | _numbers(provenance)
    for site in sites:
        site.mean_variables -= unfit
        site.variance_variables -= unfit
    sites = [s for s in sites if s.moments or (s.variance_variables and s.mean_variables)]
    by_moment: dict[Tensor, list[Update]] = {}
    for update in find_updates(provenance):
        if update.write.variable not in unfit:
            for moment in update.moments:
                by_moment.setdefault(moment, []).append(update)
    layers = [_layer(group) for group in _grouped(sites, by_moment, provenance.flat.walks)]
    layers = _linked(layers, by_moment)
    layers.sort(key=lambda layer: min(provenance.nodes[site.node].place for site in layer.sites))
    taken = {m for layer in layers for m in layer.moments}
    for layer in layers:
        _add_averages(layer, by_moment, taken, provenance)
    name_layers(layers, provenance)
    return layers


def _numbers(provenance: Provenance) -> set[VariableId]:
    """Variables that hold a single number, such as a count: averages hold one a channel."""

    def is_number(variable: VariableId) -> bool:
        return declared_rank(provenance.nodes[variable], provenance.flat.producer) == 0

    return set(filter(is_number, provenance.variables.names))


def _grouped(
    sites: list[Site], by_moment: dict[Tensor, list[Update]], walks: Walks
) -> list[list[Site]]:
    """Sites joined, directly or through others, by a moment or a variable they share."""
    keys = [site.moments | site.mean_variables | site.variance_variables for site in sites]
    for site, own in zip(sites, keys, strict=True):
        own |= {u.write.variable for moment in site.moments for u in by_moment.get(moment, ())}
    sharing: dict[Tensor | VariableId, list[int]] = {}
    for k, own in enumerate(keys):
        for key in own:
            sharing.setdefault(key, []).append(k)
    groups: list[list[Site]] = []
    seen: set[int] = set()
    for k in range(len(sites)):
        if k not in seen:
            reached = walks.reach([k], lambda k: [o for i in keys[k] for o in sharing.pop(i, ())])
            seen |= (group := set(reached))
            groups.append([sites[member] for member in sorted(group)])
    return sorted(groups, key=lambda group: group[0].node)


def _layer(sites: list[Site]) -> Layer:
    layer = Layer(sites)
    for site in sites:
        _add(layer, site)
    layer.affine -= layer.stored
    return layer


def _add(layer: Layer, part: Site | Layer) -> None:
    layer.moments |= part.moments
    layer.affine |= part.affine
    layer.mean_variables |= part.mean_variables
    layer.variance_variables |= part.variance_variables


def _linked(layers: list[Layer], by_moment: dict[Tensor, list[Update]]) -> list[Layer]:
    """Joins what normalises with the batch and what normalises with averages.

    A layer whose averages nothing updates falls apart into these two, or into one for
    each of its calls: no average links them. Its parameters do, or its input, or the
    weights that made its input.
    """

    def is_bare(layer: Layer) -> bool:
        return bool(layer.moments) and not layer.stored and not layer.moments & by_moment.keys()

    bare = [layer for layer in layers if is_bare(layer)]
    rest = [layer for layer in layers if not is_bare(layer)]
    averaged = [layer for layer in rest if layer.stored]
    joined: list[Layer] = []
    for layer in bare:
        _join(layer, joined, joined, lambda a, b: bool(a.affine) and a.affine == b.affine)
    kept: list[Layer] = []
    for layer in joined:
        _join(layer, averaged, kept, _share_affine, _share_input, _share_weights)
    return sorted([*rest, *kept], key=lambda layer: layer.sites[0].node)


def _join(
    layer: Layer, twins: list[Layer], rest: list[Layer], *tests: Callable[[Layer, Layer], bool]
) -> None:
    """Adds the layer to its twin, by the first test that finds one, else to the rest."""
    twin = next((other for test in tests for other in twins if test(layer, other)), None)
    if twin is None:
        rest.append(layer)
    else:
        twin.sites = sorted([*twin.sites, *layer.sites], key=lambda site: site.node)
        _add(twin, layer)


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
