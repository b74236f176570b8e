"""Finds the places where a graph normalises: by what is computed, not by name.

A site is where a per-example tensor x meets the reciprocal of a standard deviation:
a fused kernel, or a product or quotient with something that came through a square
root. The operand of the square root says what the variance is made of. Folded into
weights, the reciprocal meets the weights first, and x is what they alone would make.
"""

from collections.abc import Iterable, Iterator

from alexnet_tf1.batchnorm.graph.fold import Folding
from alexnet_tf1.batchnorm.graph.node import Node, NodeId, Tensor, VariableId
from alexnet_tf1.batchnorm.graph.ops import (
    ELEMENTWISE,
    LINEAR,
    PASSED,
    PRODUCTS,
    SUMS,
    fused_is_training,
    is_fused,
)
from alexnet_tf1.batchnorm.layers.layer import Site
from alexnet_tf1.batchnorm.layers.provenance import Provenance

_SQUARE_ROOTS = frozenset({"Rsqrt", "Sqrt"})
_SHIFTS = SUMS | {"BiasAdd"}
_PLAIN = frozenset({"Identity", "Cast", "Reshape", "Transpose"})
_STEPS = 200
_BEFORE = 8  # products and sums between x and where it is scaled


def find_sites(provenance: Provenance) -> list[Site]:
    """Finds every place that normalises over the batch, or with stored averages, in order."""
    sites: list[Site] = []
    for node in provenance.nodes:
        fused = is_fused(node.op) and len(node.inputs) >= 5
        described = node.op == "BatchNormWithGlobalNormalization" and len(node.inputs) >= 5
        if not (fused or described or _is_square_root(node, provenance)):
            continue
        if provenance.is_gradient(node):
            continue
        if fused:
            sites += _fused_site(node, provenance)
        elif described:
            sites.append(_described_site(node, provenance, range(5)))
        else:
            sites += _Search(node, provenance).sites()
    for site in sites:
        site.weights = weights_of(site.base, provenance)
    return sites


def _is_square_root(node: Node, provenance: Provenance) -> bool:
    if node.op == "Pow" and len(node.inputs) == 2:
        return provenance.plain_constant(node.inputs[1]) in (0.5, -0.5)
    return node.op in _SQUARE_ROOTS and bool(node.inputs)


def _fused_site(node: Node, provenance: Provenance) -> list[Site]:
    if not fused_is_training(node):
        return [_described_site(node, provenance, (0, 3, 4, 2, 1))]
    x = node.inputs[0]
    if provenance.axes.batch_axis(x, 4, ()) is None:
        return []  # layer or instance normalisation in disguise: a batch of one
    site = Site(node.id, provenance.peel(x))
    site.moments = {Tensor(node.id, 1), Tensor(node.id, 2)}
    site.affine = _variables(provenance, node.inputs[1:3])
    return [site]


def _described_site(node: Node, provenance: Provenance, order: Iterable[int]) -> Site:
    """A kernel whose inputs are, in that order, x, mean and variance to use, shift and scale."""
    x, mean, variance, *affine = (node.inputs[k] for k in order)
    site = Site(node.id, provenance.peel(x), [mean], [variance])
    site.affine = _variables(provenance, affine)
    _fill(site, provenance)
    return site


def _variables(provenance: Provenance, tensors: list[Tensor]) -> set[VariableId]:
    return {v for tensor in tensors for v in provenance.sources(tensor).variables}


def _fill(site: Site, provenance: Provenance) -> None:
    """Notes what the site's means and variances are made of."""
    site.mean_variables = _variables(provenance, site.means)
    site.variance_variables = _variables(provenance, site.variances)
    for tensor in [*site.means, *site.variances]:
        site.moments |= provenance.sources(tensor).moments


class _Search:
    """Follows one square root forward to the tensors it scales."""

    def __init__(self, square_root: Node, provenance: Provenance) -> None:
        self.square_root = square_root
        self.variance = provenance.sources(square_root.inputs[0])
        self.provenance = provenance
        self.nodes = provenance.nodes
        self.walks = provenance.flat.walks
        # What is made of the square root and still a statistic: by node, the nodes it is made of.
        self.chain: dict[NodeId, list[NodeId]] = {square_root.id: []}
        self.scaled: list[tuple[NodeId, Tensor, Tensor]] = []  # (node, x side, scale side)
        self.shifts: list[tuple[NodeId, Tensor]] = []  # products of the chain with a statistic

    def sites(self) -> list[Site]:
        made = self.variance
        if made.data or not (made.moments or made.variables):
            return []
        for _ in self.walks.reach([self.square_root.id], self._extend, _STEPS):
            pass
        found = [self._site(*scaled) for scaled in self.scaled]
        return [site for site in found if site is not None]

    def _extend(self, current: NodeId) -> list[NodeId]:
        """Adds the consumers of a node of the chain to the chain; notes what it scales."""
        added = []
        for consumer, at in self.provenance.flat.consumers[current]:
            node = self.nodes[consumer]
            if at >= len(node.inputs) or self.provenance.is_gradient(node):
                continue
            others = [t for k, t in enumerate(node.inputs) if k != at]
            if node.op in LINEAR and any(map(self._is_data, others[-1:])):
                self.scaled.append((consumer, others[-1], node.inputs[at]))
            if node.op not in PASSED:
                continue
            product = node.op in PRODUCTS and len(node.inputs) == 2
            if (product or node.op in ELEMENTWISE) and any(map(self._is_data, others)):
                if product:
                    self.scaled.append((consumer, others[0], node.inputs[at]))
                continue
            if product:
                self.shifts.append((consumer, others[0]))
            self.chain.setdefault(consumer, []).append(current)
            added.append(consumer)
        return added

    def _is_data(self, tensor: Tensor) -> bool:
        return self.provenance.tainted[tensor.node] == 1 and self.provenance.has_data(tensor)

    def _site(self, node_id: NodeId, x_side: Tensor, scale_side: Tensor) -> Site | None:
        """The site at a product, if it is a normalisation of x."""
        provenance, variance = self.provenance, self.variance
        folded = self.nodes[node_id].op in LINEAR
        means, base = ([], Tensor(node_id, 0)) if folded else self._centres(x_side)
        site = Site(node_id, base, means, [self.square_root.inputs[0], scale_side])
        # Chain nodes on the way from the square root to the product.
        start = [scale_side.node] if scale_side.node in self.chain else []
        scales = set(self.walks.reach(start, self.chain.__getitem__))
        for product, other in self.shifts:
            if product in scales:
                site.affine |= provenance.sources(other).variables
            elif self._is_subtracted(product, node_id):
                site.means.append(other)
        _fill(site, provenance)
        site.variance_variables = variance.variables | (site.variance_variables - site.affine)
        self._add_affine(site)
        site.mean_variables -= site.affine
        if folded and not site.means:
            return None  # weights scaled otherwise: normalised themselves, for one
        bases = self._unfolded(site, x_side) if folded else provenance.bases(x_side)
        own = {m for m in site.moments if provenance.moment(m).bases & bases}
        moments = [provenance.moment(m) for m in variance.moments & own]
        if any(m.squared for m in moments):
            if not any(m.centred or not m.squared for m in moments):
                return None  # scaled by a norm over the batch, without a mean
            site.moments = own
            return site
        if site.moments - own:
            return None  # another tensor's statistics: a gradient
        return site if site.variance_variables and site.mean_variables else None

    def _unfolded(self, site: Site, x_side: Tensor) -> frozenset[Tensor]:
        """Finds the result of the unfolded weights on the same inputs; it becomes x."""
        provenance, op = self.provenance, self.nodes[site.node].op
        x = provenance.peel(x_side)
        found = [
            base
            for moment in sorted(site.moments)
            for base in provenance.moment(moment).bases
            if self.nodes[base.node].op == op
            and x in map(provenance.peel, self.nodes[base.node].inputs)
        ]
        if found:
            site.base = found[0]
            site.affine -= weights_of(site.base, provenance)
        return frozenset(found)

    def _centres(self, x_side: Tensor) -> tuple[list[Tensor], Tensor]:
        """Finds what is subtracted from x on its way to the product, and x itself."""
        provenance = self.provenance
        tensor = provenance.peel(x_side)
        for _ in range(_BEFORE):
            node = self.nodes[tensor.node]
            if node.op not in PRODUCTS | SUMS or len(node.inputs) != 2:
                break
            first, second = node.inputs
            if self._is_data(second):
                if self._is_data(first):
                    break
                first, second = second, first
            made = provenance.sources(second)
            if not (made.moments or made.variables) or self._has_square_root(second):
                break  # not a statistic, or another layer's scale
            if node.op in SUMS:
                if node.op == "Sub" or self.nodes[provenance.peel(second).node].op == "Neg":
                    return [second], provenance.peel(first)
                break  # a bias added to x: x is the sum
            tensor = provenance.peel(first)
        return [], tensor

    def _has_square_root(self, tensor: Tensor) -> bool:
        """Tells whether a square root is taken on the way to the statistic."""
        provenance = self.provenance

        def step(current: Tensor) -> list[Tensor]:
            node = self.nodes[current.node]
            if node.op not in PASSED or node.id in provenance.variables.reading:
                return []
            return provenance.plain.passed_inputs(current)

        met = self.walks.reach([tensor], step, _STEPS)
        return any(_is_square_root(self.nodes[t.node], provenance) for t in met)

    def _is_subtracted(self, product: NodeId, node_id: NodeId) -> bool:
        """Tells whether mean * inverse deviation ends in a sum with the scaled x."""
        after = self._downstream(node_id)
        consumers = self.provenance.flat.consumers

        def step(current: NodeId) -> list[NodeId]:
            return [consumer for consumer, _ in consumers[current] if consumer in self.chain]

        return any(
            consumer in after and self.nodes[consumer].op in SUMS
            for current in self.walks.reach([product], step, _STEPS)
            for consumer, _ in consumers[current]
        )

    def _downstream(self, node_id: NodeId) -> set[NodeId]:
        """The nodes that scale and shift the product: at most one of each."""

        def step(state: tuple[NodeId, bool, bool]) -> Iterator[tuple[NodeId, bool, bool]]:
            current, scale, shift = state  # and whether it may still be scaled and shifted
            for consumer, at in self.provenance.flat.consumers[current]:
                node = self.nodes[consumer]
                if self._stays_affine(node, at, scale, shift):
                    scalable, shiftable = node.op not in PRODUCTS, node.op not in _SHIFTS
                    yield (consumer, scale and scalable, shift and shiftable)

        reached = self.walks.reach([(node_id, True, True)], step, _STEPS)
        return {found for found, _, _ in reached} - {node_id}

    def _stays_affine(self, node: Node, at: int, scale: bool, shift: bool) -> bool:
        if node.op in _PLAIN:
            return at == 0
        if node.op == "BiasAdd":
            return at == 0 and shift
        if node.op not in PRODUCTS | SUMS or len(node.inputs) != 2:
            return False
        other = node.inputs[1 - at]
        if not (scale if node.op in PRODUCTS else shift) or self._is_data(other):
            return False
        if other.node in self.chain:
            return node.op in SUMS
        if node.op == "Sub" and at == 0:
            return False  # the next layer's mean
        made = self.provenance.sources(other)
        if not self._has_square_root(other) and not made.moments:
            return True
        # A correction of one of the layer's own variances to the other; else another layer's scale.
        variance = self.variance
        return made.moments <= variance.moments and made.variables <= variance.variables

    def _add_affine(self, site: Site) -> None:
        """Notes gamma and beta: what scales and shifts the product afterwards."""
        for consumer in self._downstream(site.node):
            for tensor in self.nodes[consumer].inputs:
                if not self._is_data(tensor):
                    site.affine |= self.provenance.sources(tensor).variables
        site.affine -= self.variance.variables | site.mean_variables


def uses_batch(site: Site, folding: Folding, provenance: Provenance) -> bool:
    """Tells whether the site, under the folding, normalises with batch statistics."""
    if not folding.runs(site.node):
        return False
    node = provenance.nodes[site.node]
    return (is_fused(node.op) and fused_is_training(node)) or any(
        provenance.sources(tensor, folding).moments & site.moments
        for tensor in [*site.variances, *site.means]
    )


def weights_of(base: Tensor, provenance: Provenance) -> frozenset[VariableId]:
    """Variables of the nearest operation before x that is not element by element."""

    def step(tensor: Tensor) -> list[Tensor]:
        node = provenance.nodes[tensor.node]
        return list(node.inputs) if node.op in PASSED else []

    for current in provenance.flat.walks.reach([base], step, _STEPS):
        node = provenance.nodes[current.node]
        if node.op not in PASSED:
            untainted = [t for t in node.inputs if not provenance.tainted[t.node]]
            if direct := _variables(provenance, untainted):
                return frozenset(direct)
    return frozenset()
