"""Joins sites that share their averages or parameters into layers."""

import heapq
from collections.abc import Collection, Iterable

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
    updates = _Updates(by_moment, {m for layer in layers for m in layer.moments}, provenance)
    for layer in layers:
        _add_averages(layer, updates)
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
    joined: dict[frozenset[VariableId], Layer] = {}
    alone: list[Layer] = []
    for layer in bare:
        twin = joined.setdefault(frozenset(layer.affine), layer) if layer.affine else layer
        if twin is layer:
            alone.append(layer)
        else:
            _join(twin, layer)
    twins = _Twins(averaged)
    kept: list[Layer] = []
    for layer in alone:
        place = twins.find(layer)
        if place is None:
            kept.append(layer)
        else:
            _join(averaged[place], layer)
            twins.add(place)
    return sorted([*rest, *kept], key=lambda layer: layer.sites[0].node)


def _join(twin: Layer, layer: Layer) -> None:
    """Adds the layer to its twin."""
    twin.sites = sorted([*twin.sites, *layer.sites], key=lambda site: site.node)
    _add(twin, layer)


class _Twins:
    """Finds the first layer with averages that shares what makes it the twin of a bare one.

    What a layer must lack to be a twin it never loses again: it is dropped where it is met.
    """

    def __init__(self, layers: list[Layer]) -> None:
        self._layers = layers
        # By what is shared, and whether the twin must lack a scale and shift: places in `layers`.
        self._places: dict[tuple[object, bool], list[int]] = {}
        for place in range(len(layers)):
            self.add(place)

    def add(self, place: int) -> None:
        """Notes all that the layer has, as it is now."""
        layer = self._layers[place]
        for key in (key for keys in _shared(layer) for key in keys):
            for plain in (False, True):
                heapq.heappush(self._places.setdefault((key, plain), []), place)

    def find(self, bare: Layer) -> int | None:
        """The place of the twin that shares its scale or shift, else its input, else weights."""
        for kind, keys in enumerate(_shared(bare)):
            plain = bool(bare.affine) and kind > 0
            found = (self._first((key, plain), lacks_moments=kind == 2) for key in keys)
            first = min((place for place in found if place is not None), default=None)
            if first is not None:
                return first
        return None

    def _first(self, key: tuple[object, bool], *, lacks_moments: bool) -> int | None:
        places = self._places.get(key, [])
        while places:
            layer = self._layers[places[0]]
            if not (key[1] and layer.affine) and not (lacks_moments and layer.moments):
                return places[0]
            heapq.heappop(places)
        return None


def _shared(layer: Layer) -> tuple[Collection[object], ...]:
    """All that a layer may share: scale and shift, inputs, the weights that made its inputs."""
    weights = {site.weights for site in layer.sites if site.weights}
    return layer.affine, {site.base for site in layer.sites}, weights


class _Updates:
    """The updates of moving averages, found by the moments that they average."""

    def __init__(
        self, by_moment: dict[Tensor, list[Update]], taken: set[Tensor], provenance: Provenance
    ) -> None:
        self.by_moment = by_moment
        # Of moments that no layer normalises with, by what they reduce; and by variable. The
        # numbers keep the order of the graph.
        self._by_base: dict[Tensor, list[tuple[int, Update]]] = {}
        self._by_variable: dict[VariableId, list[tuple[int, Update]]] = {}
        updates = ((moment, update) for moment, us in by_moment.items() for update in us)
        for number, (moment, update) in enumerate(updates):
            self._by_variable.setdefault(update.write.variable, []).append((number, update))
            if moment not in taken:
                base = provenance.moment(moment).base
                self._by_base.setdefault(base, []).append((number, update))

    def of_inputs(self, bases: set[Tensor]) -> list[Update]:
        """Those that average moments of these tensors, computed a second time."""
        return _in_order(self._by_base.get(base, []) for base in bases)

    def of_variables(self, variables: set[VariableId]) -> list[Update]:
        """Those that write these variables."""
        return _in_order(self._by_variable.get(variable, []) for variable in variables)


def _in_order(found: Iterable[list[tuple[int, Update]]]) -> list[Update]:
    numbered = {number: update for updates in found for number, update in updates}
    return [numbered[number] for number in sorted(numbered)]


def _add_averages(layer: Layer, updates: _Updates) -> None:
    """Finds the layer's averages and their updates."""
    found = {id(u): u for m in layer.moments for u in updates.by_moment.get(m, ())}
    bases = {site.base for site in layer.sites if site.moments}
    # The moments to be averaged may have been computed a second time, from the same x.
    for update in updates.of_inputs(bases):
        if update.write.variable in layer.stored or not found:
            found[id(update)] = update
    # Those of other moments than the layer's own.
    found |= {id(update): update for update in updates.of_variables(layer.stored)}
    through = {v for u in found.values() for v in u.through} - layer.stored
    for update in found.values():
        if update.through & layer.stored and update.write.variable not in layer.stored:
            continue  # an average of the averages, such as a model's weight averages
        if update.write.variable not in through:
            layer.updates.setdefault(update.write.variable, []).append(update)
    layer.auxiliary = through
    layer.averages = sorted(set(layer.updates) | layer.stored)
    layer.affine -= set(layer.averages) | through
