"""The five rules: BN101, BN102, BN201, BN202, BN203."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from alexnet_tf1.batchnorm.graph.flatten import Tensor
from alexnet_tf1.batchnorm.graph.fold import Folding, fused_is_training, is_fused
from alexnet_tf1.batchnorm.graph.variables import Variables, Write
from alexnet_tf1.batchnorm.layers.grouping import Layer
from alexnet_tf1.batchnorm.layers.provenance import Moments
from alexnet_tf1.batchnorm.layers.sites import Site
from alexnet_tf1.batchnorm.report import Fault

_UPDATE_OPS = "tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS))"


@dataclass
class Evidence:
    """What the rules look at.

    Attributes:
      moments, variables: the graph, unfolded.
      training, inference: the graph with the switch at True and at False.
      trained: nodes that the training ops run with the switch at True; None: there are none.
      read: tensors that the logits depend on with the switch at False.
      run: nodes that computing the logits runs with the switch at False.
      train_name: what messages call the training op.
      collected: nodes that running the UPDATE_OPS collection would run.
    """

    moments: Moments
    variables: Variables
    training: Folding
    inference: Folding
    trained: set[int] | None
    read: set[Tensor]
    run: set[int]
    train_name: str
    collected: set[int]

    def __post_init__(self) -> None:
        self.read_nodes = {t[0] for t in self.read}
        self.read_variables = self._read_variables()

    def _read_variables(self) -> set[int]:
        """Variables whose values the logits depend on, directly or through other variables."""
        variables = self.variables
        found = {variables.reading[n] for n in self.read_nodes if n in variables.reading}
        found |= {
            variables.write_of[n].variable for n in self.read_nodes if n in variables.write_of
        }
        pending = list(found)
        while pending:
            for write in variables.writes.get(pending.pop(), ()):
                if write.value is None:
                    continue
                for source in self.moments.sources(write.value).variables - found:
                    found.add(source)
                    pending.append(source)
        return found

    def name(self, variable: int) -> str:
        """The variable's operation name."""
        return self.variables.names[variable]

    def trains_on_batch(self, layer: Layer) -> bool:
        """Whether training normalises the layer with batch statistics: it is not frozen."""
        trained = self.trained or ()
        return any(
            s.node in trained and uses_batch(self.moments, s, self.training) for s in layer.sites
        )

    def infers(self, layer: Layer) -> bool:
        """Whether the logits pass through the layer."""
        return any(site.node in self.read_nodes for site in layer.sites)

    def stored_in_inference(self, layer: Layer) -> list[int]:
        """Averages that the logits are normalised with, in the order of the graph."""
        found: set[int] = set()
        for site in layer.sites:
            if site.node in self.read_nodes:
                for tensor in [*site.means, *site.variances]:
                    found |= self.moments.sources(tensor, self.inference).variables
        return [v for v in layer.averages if v in found]


def uses_batch(moments: Moments, site: Site, folding: Folding) -> bool:
    """Whether the site, under the folding, normalises with batch statistics."""
    if folding.dead[site.node] == 1:
        return False
    node = moments.nodes[site.node]
    if is_fused(node.op) and fused_is_training(node):
        return True
    return any(
        moments.sources(tensor, folding).moments & site.moments
        for tensor in [*site.variances, *site.means]
    )


def check(layers: list[Layer], evidence: Evidence) -> list[Fault]:
    """Applies every rule to every layer.

    Args:
      layers: the graph's batch normalisations.
      evidence: what training and inference run and read.

    Returns:
      Faults in the order of the layers, then of the rules.
    """
    faults = []
    for layer in layers:
        for rule, find in _RULES:
            message = find(layer, evidence)
            if message:
                faults.append(Fault(rule, layer.name, message))
    return faults


def _never_reached(layer: Layer, evidence: Evidence) -> str | None:
    """BN101."""
    trained = evidence.trained
    if trained is None or not evidence.trains_on_batch(layer):
        return None
    missed = [v for v in layer.averages if v in layer.updates and not _is_updated(v, evidence)]
    if not missed:
        return None
    names = _and([evidence.name(v) for v in missed])
    writes = [update.write for v in missed for update in layer.updates[v]]
    verb = "is" if len(missed) == 1 else "are"
    if all(evidence.training.dead[w.node] == 1 for w in writes):
        return (
            f"{names} {verb} updated only where training never goes; move the update "
            f"({_op(writes[0], evidence)}) into the branch that training takes"
        )
    running = [w for w in writes if w.node in trained]
    if running:
        return (
            f"{names} {verb} written by {_op(running[0], evidence)} without being changed in "
            "training; give the update a momentum below 1 when is_training is True"
        )
    if any(w.node in evidence.collected for w in writes):
        remedy = f"build it under {_UPDATE_OPS}"
    else:
        ops = _and(list(dict.fromkeys(_op(write, evidence) for write in writes[:2])))
        remedy = f"build it under tf.control_dependencies on {ops}"
    return f"{names} {verb} never updated by {evidence.train_name}; {remedy}"


def _is_updated(variable: int, evidence: Evidence) -> bool:
    trained = evidence.trained or ()
    return any(
        write.node in trained and evidence.variables.changes(write, evidence.training)
        for write in evidence.variables.writes.get(variable, ())
    )


def _never_updated(layer: Layer, evidence: Evidence) -> str | None:
    """BN102."""
    if evidence.trained is None or not evidence.trains_on_batch(layer):
        return None
    stored = evidence.stored_in_inference(layer)
    never = [v for v in stored if v not in layer.updates and not _has_update(v, evidence)]
    if never:
        names = _and([evidence.name(v) for v in never])
        verb, pronoun = ("is", "it") if len(never) == 1 else ("are", "them")
        return (
            f"{names} {verb} read in inference and nothing in the graph updates {pronoun}; "
            "average the batch moments into them with assign_moving_average and make the "
            "training op depend on that"
        )
    return _swapped(layer, stored, evidence)


def _has_update(variable: int, evidence: Evidence) -> bool:
    """Whether anything but initialisation, restoring and feeding writes the variable."""
    moments = evidence.moments
    for write in evidence.variables.writes.get(variable, ()):
        if write.value is None:
            return True
        computed = moments.tainted[write.value[0]] == 1
        origin = moments.nodes[moments.peel(write.value)[0]].op
        if computed and origin.startswith(("Placeholder", "Random", "Truncated")):
            continue
        others = moments.sources(write.value).variables - {variable}
        if (computed or others) and (
            evidence.variables.changes(write, evidence.training)
            or evidence.variables.changes(write, evidence.inference)
        ):
            return True
    return False


def _swapped(layer: Layer, stored: list[int], evidence: Evidence) -> str | None:
    """Mean and variance averaged into each other's variables."""
    moments = evidence.moments

    def is_variance(variable: int) -> bool:
        found = [m for u in layer.updates[variable] for m in u.moments]
        return any(moments.moment(m).squared for m in found)

    known = [v for v in stored if v in layer.updates]
    means = [v for v in known if v in layer.mean_variables - layer.variance_variables]
    variances = [v for v in known if v in layer.variance_variables - layer.mean_variables]
    wrong = [v for v in means if is_variance(v)] and [v for v in variances if not is_variance(v)]
    if not wrong:
        return None
    wrong_mean = next(v for v in means if is_variance(v))
    return (
        f"{evidence.name(wrong_mean)} is read as the mean and nothing in the graph updates it "
        f"with the batch mean: it and {evidence.name(wrong[0])} get each other's moments; "
        "exchange the values of the two updates"
    )


def _depends_on_batch(layer: Layer, evidence: Evidence) -> str | None:
    """BN201."""
    read = evidence.read
    for site in layer.sites:
        node = evidence.moments.nodes[site.node]
        fused = is_fused(node.op) and fused_is_training(node)
        if (fused and (node.id, 0) in read) or any(m in read for m in site.moments):
            where = evidence.moments.nodes[site.node].name
            if layer.averages:
                names = _and([evidence.name(v) for v in layer.averages])
                remedy = f"normalise with {names} when is_training is False"
            else:
                remedy = (
                    "keep moving averages of the batch moments and normalise with them when "
                    "is_training is False"
                )
            return f"logits depend on the batch's own statistics in inference ({where}); {remedy}"
    return None


def _writes_in_inference(layer: Layer, evidence: Evidence) -> str | None:
    """BN202."""
    written: dict[int, Write] = {}
    for variable in [*layer.averages, *sorted(layer.auxiliary)]:
        for write in evidence.variables.writes.get(variable, ()):
            if write.node in evidence.run and evidence.variables.changes(write, evidence.inference):
                written.setdefault(variable, write)
    if not written:
        return None
    shown = [v for v in written if v in layer.averages] or list(written)
    ops = _and(list(dict.fromkeys(_op(written[v], evidence) for v in shown[:2])))
    return (
        f"computing the logits in inference writes {_and([evidence.name(v) for v in shown])}; "
        f"run {ops} only when is_training is True"
    )


def _never_read(layer: Layer, evidence: Evidence) -> str | None:
    """BN203."""
    if not evidence.infers(layer):
        return None
    kept = [v for v in layer.averages if v in layer.updates]
    unread = [v for v in kept if v not in evidence.read_variables]
    if len(unread) < len(kept):
        # What training reads to correct its statistics (batch renormalisation) is of use.
        corrections = set().union(*(site.affine for site in layer.sites))
        unread = [v for v in unread if v not in corrections]
    if not unread:
        return None
    verb = "is" if len(unread) == 1 else "are"
    return (
        f"{_and([evidence.name(v) for v in unread])} {verb} kept and inference never reads "
        f"{'it' if len(unread) == 1 else 'them'}; normalise with "
        f"{'it' if len(unread) == 1 else 'them'} when is_training is False"
    )


def _op(write: Write, evidence: Evidence) -> str:
    """The write's name, or that of the call it lies in: what a person can refer to."""
    name: str = evidence.moments.nodes[write.node].name
    while name not in evidence.moments.flat.top and "/" in name:
        name = name.rpartition("/")[0]
    return name


def _and(names: list[str]) -> str:
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


_Rule = Callable[[Layer, Evidence], "str | None"]
_RULES: tuple[tuple[str, _Rule], ...] = (
    ("BN101", _never_reached),
    ("BN102", _never_updated),
    ("BN201", _depends_on_batch),
    ("BN202", _writes_in_inference),
    ("BN203", _never_read),
)
