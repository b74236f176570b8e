"""Places where a graph normalises: found by what is computed, not by name.

A site is where a per-example tensor x meets the reciprocal of a standard deviation:
a fused kernel, or a product or quotient with something that came through a square
root. The root's operand says what the variance is made of.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from alexnet_tf1.batchnorm.graph.flatten import Node, Tensor
from alexnet_tf1.batchnorm.graph.fold import fused_is_training, is_fused
from alexnet_tf1.batchnorm.graph.ops import ELEMENTWISE, PASSED, passed_inputs
from alexnet_tf1.batchnorm.layers.provenance import Moments

_ROOTS = frozenset({"Rsqrt", "Sqrt"})
_PRODUCTS = frozenset({"Mul", "RealDiv", "Div", "DivNoNan", "MulNoNan"})
_SUMS = frozenset({"Add", "AddV2", "Sub", "AddN"})
_SHIFTS = _SUMS | {"BiasAdd"}
_PLAIN = frozenset({"Identity", "Cast", "Reshape", "Transpose"})
_STEPS = 200
_AFTER = 8


@dataclass
class Site:
    """One normalisation of one tensor.

    Attributes:
      node: the operation that scales x (or the fused kernel).
      base: x, casts and reshapes peeled off.
      means: tensors subtracted from x as its mean.
      variances: tensors whose root scales x.
      moments: batch moments of x among their sources, in any branch.
      mean_variables, variance_variables: variables among their sources, in any branch.
      affine: variables that scale and shift the normalised x (gamma, beta).
      weights: variables of the operation that made x.
    """

    node: int
    base: Tensor
    means: list[Tensor] = field(default_factory=list)
    variances: list[Tensor] = field(default_factory=list)
    moments: set[Tensor] = field(default_factory=set)
    mean_variables: set[int] = field(default_factory=set)
    variance_variables: set[int] = field(default_factory=set)
    affine: set[int] = field(default_factory=set)
    weights: frozenset[int] = frozenset()


def find_sites(moments: Moments) -> list[Site]:
    """Every place in the graph that normalises over the batch, or with stored averages.

    Args:
      moments: the graph, unfolded.

    Returns:
      The sites in the order of their nodes.
    """
    sites: list[Site] = []
    for node in moments.nodes:
        if is_fused(node.op):
            site = _fused_site(node, moments)
            if site is not None:
                sites.append(site)
        elif node.op == "BatchNormWithGlobalNormalization" and len(node.inputs) >= 5:
            sites.append(_described_site(node, moments, *range(5)))
        elif _is_root(node, moments):
            sites.extend(_Search(node, moments).sites())
    for site in sites:
        site.weights = weights_of(site.base, moments)
    return sites


def _is_root(node: Node, moments: Moments) -> bool:
    if node.op == "Pow" and len(node.inputs) == 2:
        return moments.plain_constant(node.inputs[1]) in (0.5, -0.5)
    return node.op in _ROOTS and bool(node.inputs)


def _fused_site(node: Node, moments: Moments) -> Site | None:
    if len(node.inputs) < 5:
        return None
    if not fused_is_training(node):
        return _described_site(node, moments, 0, 3, 4, 2, 1)
    x = node.inputs[0]
    if moments.axes.batch_axis(x, 4, ()) is None:
        return None  # layer or instance normalisation in disguise: a batch of one
    site = Site(node.id, moments.peel(x))
    site.moments = {(node.id, 1), (node.id, 2)}
    site.affine = _variables(moments, node.inputs[1:3])
    return site


def _described_site(
    node: Node, moments: Moments, x: int, mean: int, variance: int, shift: int, scale: int
) -> Site:
    """A kernel whose inputs are the mean and the variance to use."""
    inputs = node.inputs
    site = Site(node.id, moments.peel(inputs[x]), [inputs[mean]], [inputs[variance]])
    site.affine = _variables(moments, [inputs[shift], inputs[scale]])
    _fill(site, moments)
    return site


def _variables(moments: Moments, tensors: list[Tensor]) -> set[int]:
    found: set[int] = set()
    for tensor in tensors:
        found |= moments.sources(tensor).variables
    return found


def _fill(site: Site, moments: Moments) -> None:
    """Notes what the site's means and variances are made of."""
    for tensors, variables in (
        (site.means, site.mean_variables),
        (site.variances, site.variance_variables),
    ):
        for tensor in tensors:
            sources = moments.sources(tensor)
            site.moments |= sources.moments
            variables |= sources.variables


class _Search:
    """Follows one root forward to the tensors it scales."""

    def __init__(self, root: Node, moments: Moments) -> None:
        self.root = root
        self.moments = moments
        self.nodes = moments.nodes
        self.chain: dict[int, list[int]] = {root.id: []}  # node -> chain nodes it extends
        self.scaled: list[tuple[int, Tensor, Tensor]] = []  # (node, x side, scale side)
        self.shifts: list[tuple[int, Tensor]] = []  # products of the chain with a statistic

    def sites(self) -> list[Site]:
        operand = self.root.inputs[0]
        sources = self.moments.sources(operand)
        if sources.data or not (sources.moments or sources.variables):
            return []
        self._walk()
        found = [self._site(*scaled) for scaled in self.scaled]
        return [site for site in found if site is not None]

    def _walk(self) -> None:
        """Extends the chain through whatever stays a statistic."""
        queue = deque([self.root.id])
        while queue and len(self.chain) < _STEPS:
            current = queue.popleft()
            for consumer, at in self.moments.flat.consumers[current]:
                node = self.nodes[consumer]
                if node.op not in PASSED or at >= len(node.inputs):
                    continue
                others = [t for k, t in enumerate(node.inputs) if k != at]
                if node.op in _PRODUCTS and len(node.inputs) == 2:
                    if self._is_data(others[0]):
                        self.scaled.append((consumer, others[0], node.inputs[at]))
                        continue
                    self.shifts.append((consumer, others[0]))
                elif node.op in ELEMENTWISE and any(self._is_data(t) for t in others):
                    continue
                if consumer not in self.chain:
                    self.chain[consumer] = []
                    queue.append(consumer)
                self.chain[consumer].append(current)

    def _is_data(self, tensor: Tensor) -> bool:
        return self.moments.tainted[tensor[0]] == 1 and self.moments.has_data(tensor)

    def _site(self, node_id: int, x_side: Tensor, scale_side: Tensor) -> Site | None:
        """The site at a product, if it is a normalisation of x."""
        moments = self.moments
        bases = moments.bases(x_side)
        centres, base = self._centres(x_side)
        site = Site(node_id, base)
        site.variances = [self.root.inputs[0], scale_side]
        scales = self._scales(scale_side)
        for product, other in self.shifts:
            if product in scales:
                site.affine |= moments.sources(other).variables
            elif self._is_subtracted(product, node_id):
                centres.append(other)
        site.means = centres
        _fill(site, moments)
        variance = moments.sources(self.root.inputs[0])
        site.variance_variables = variance.variables | (site.variance_variables - site.affine)
        self._add_affine(site)
        site.mean_variables -= site.affine
        own = {m for m in site.moments if moments.moment(m).bases & bases}
        if any(moments.moment(m).squared for m in variance.moments & own):
            if not self._is_centred(variance.moments & own):
                return None  # scaled by a norm over the batch, without a mean
            site.moments = own
            return site
        if site.moments - own:
            return None  # another tensor's statistics: a gradient
        return site if site.variance_variables and site.mean_variables else None

    def _is_centred(self, found: set[Tensor]) -> bool:
        inner = [self.moments.moment(m) for m in found]
        return any(m.centred or not m.squared for m in inner)

    def _centres(self, x_side: Tensor) -> tuple[list[Tensor], Tensor]:
        """What is subtracted from x on its way to the product, and x itself."""
        moments = self.moments
        tensor = moments.peel(x_side)
        for _ in range(_AFTER):
            node = self.nodes[tensor[0]]
            if node.op not in _PRODUCTS | _SUMS or len(node.inputs) != 2:
                break
            first, second = node.inputs
            if self._is_data(second):
                if self._is_data(first):
                    break
                first, second = second, first
            made = moments.sources(second)
            if not (made.moments or made.variables) or self._has_root(second):
                break  # not a statistic, or another layer's scale
            if node.op in _SUMS:
                if node.op == "Sub" or self._is_negated(second):
                    return [second], moments.peel(first)
                break  # a bias added to x: x is the sum
            tensor = moments.peel(first)
        return [], tensor

    def _has_root(self, tensor: Tensor) -> bool:
        """Whether a root is taken on the way to the statistic."""
        seen, stack = {tensor}, [tensor]
        while stack and len(seen) < _STEPS:
            current = stack.pop()
            node = self.nodes[current[0]]
            if _is_root(node, self.moments):
                return True
            if node.op not in PASSED or node.id in self.moments.variables.reading:
                continue
            for source in passed_inputs(node, self.moments.plain, current):
                if source not in seen:
                    seen.add(source)
                    stack.append(source)
        return False

    def _is_negated(self, tensor: Tensor) -> bool:
        return self.nodes[self.moments.peel(tensor)[0]].op == "Neg"

    def _scales(self, scale_side: Tensor) -> set[int]:
        """Chain nodes on the way from the root to the product."""
        found, stack = set(), [scale_side[0]]
        while stack:
            current = stack.pop()
            if current not in found and current in self.chain:
                found.add(current)
                stack.extend(self.chain[current])
        return found

    def _is_subtracted(self, product: int, node_id: int) -> bool:
        """Whether mean * inverse deviation ends in a sum with the scaled x."""
        after = self._downstream(node_id)
        seen, stack = {product}, [product]
        while stack and len(seen) < _STEPS:
            for consumer, _ in self.moments.flat.consumers[stack.pop()]:
                node = self.nodes[consumer]
                if consumer in after and node.op in _SUMS:
                    return True
                if consumer in self.chain and consumer not in seen:
                    seen.add(consumer)
                    stack.append(consumer)
        return False

    def _downstream(self, node_id: int) -> set[int]:
        """The nodes that scale and shift the product: at most one of each."""
        found: set[int] = set()
        front = [(node_id, True, True)]
        for _ in range(_AFTER):
            nexts = []
            for current, scale, shift in front:
                for consumer, at in self.moments.flat.consumers[current]:
                    node = self.nodes[consumer]
                    if consumer in found or not self._stays_affine(node, at, scale, shift):
                        continue
                    found.add(consumer)
                    nexts.append(
                        (
                            consumer,
                            scale and node.op not in _PRODUCTS,
                            shift and node.op not in _SHIFTS,
                        )
                    )
            front = nexts
        return found

    def _stays_affine(self, node: Node, at: int, scale: bool, shift: bool) -> bool:
        if node.op in _PLAIN:
            return at == 0
        if node.op == "BiasAdd":
            return at == 0 and shift
        if node.op not in _PRODUCTS | _SUMS or len(node.inputs) != 2:
            return False
        other = node.inputs[1 - at]
        if not (scale if node.op in _PRODUCTS else shift) or self._is_data(other):
            return False
        if other[0] in self.chain:
            return node.op in _SUMS
        if node.op == "Sub" and at == 0:
            return False  # the next layer's mean
        return not self._has_root(other) and not self.moments.sources(other).moments

    def _add_affine(self, site: Site) -> None:
        """Notes gamma and beta: what scales and shifts the product afterwards."""
        for consumer in self._downstream(site.node):
            for tensor in self.nodes[consumer].inputs:
                if not self._is_data(tensor):
                    site.affine |= self.moments.sources(tensor).variables
        site.affine -= self._stored(site)

    def _stored(self, site: Site) -> set[int]:
        """Variables that surely hold a mean or a variance."""
        found = set(self.moments.sources(self.root.inputs[0]).variables)
        for tensor in site.means:
            found |= self.moments.sources(tensor).variables
        return found


def weights_of(base: Tensor, moments: Moments) -> frozenset[int]:
    """Variables of the nearest operation before x that is not element by element."""
    seen, queue = {base}, deque([base])
    while queue and len(seen) < _AFTER * 4:
        current = queue.popleft()
        node = moments.nodes[current[0]]
        if node.op in PASSED:
            nexts = list(node.inputs)
        else:
            direct = {
                variable
                for tensor in node.inputs
                if not moments.tainted[tensor[0]]
                for variable in moments.sources(tensor).variables
            }
            if direct:
                return frozenset(direct)
            nexts = []
        for source in nexts:
            if source not in seen:
                seen.add(source)
                queue.append(source)
    return frozenset()
