"""Keeps account of the layers that each family of rules looked at, and says what was left out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from alexnet_tf1.batchnorm.graph.flatten import FlatGraph
from alexnet_tf1.batchnorm.graph.node import NodeId
from alexnet_tf1.batchnorm.layers.layer import Layer
from alexnet_tf1.batchnorm.report import Need
from alexnet_tf1.batchnorm.rules import registry, upkeep
from alexnet_tf1.batchnorm.rules.evidence import Evidence
from alexnet_tf1.batchnorm.rules.wording import is_or_are, some


@dataclass
class Coverage:
    """The part of a graph that an audit looked at."""

    checked: dict[str, list[str]]  # by family of rules, the layers
    left_out: dict[str, str] = field(default_factory=dict)  # by family, or by what was cut
    notes: list[str] = field(default_factory=list)  # why, and how to have it checked


def take_stock(
    layers: Sequence[Layer],
    checked: Mapping[Need, list[str]],
    reasons: Mapping[Need, str],
    flat: FlatGraph,
    apart: Mapping[str, str],
) -> Coverage:
    """Compares what was checked with what there is.

    Args:
      layers: all layers.
      checked: by family of rules, the names of the layers that it looked at.
      reasons: by family, why it did not look at a layer, and the remedy.
      flat: the graph, which counts the walks that were cut.
      apart: by layer that no training can be named for, the same of the rules of training.

    Returns:
      The account.
    """
    found = Coverage({family: list(names) for family, names in checked.items()})
    if not layers:
        found.left_out["layers"] = "no batch normalisation was found"
    for family, names in checked.items():
        missing = [layer.name for layer in layers if layer.name not in names]
        if missing:
            which = f" on {some(missing)}" if len(missing) < len(layers) else ""
            what = f"{registry.identifiers(family)} were not checked{which}"
            found.left_out[family] = what
            for reason, those in _by_reason(missing, family, reasons, apart).items():
                which = f" on {some(those)}" if len(those) < len(layers) else ""
                what = f"{registry.identifiers(family)} were not checked{which}"
                found.notes.append(f"{what}: {reason}")
    if flat.truncated:
        found.left_out["calls"] = f"{len(flat.truncated)} calls were not looked into"
        found.notes.append(
            f"{len(flat.truncated)} calls were not looked into (recursive or too large), the "
            f"first: {flat.truncated[0]}"
        )
    if flat.walks.cut:
        found.left_out["walks"] = f"{flat.walks.cut} walks through the graph were cut"
        found.notes.append(
            f"not checked in full: {flat.walks.cut} walks through the graph were cut at their "
            "limit, so there may be layers, updates and faults that are not named here"
        )
    return found


def _by_reason(
    missing: Iterable[str], family: Need, reasons: Mapping[Need, str], apart: Mapping[str, str]
) -> dict[str, list[str]]:
    """Groups the layers by why they were not looked at."""
    found: dict[str, list[str]] = {}
    for name in missing:
        reason = apart.get(name, reasons[family]) if family == "training" else reasons[family]
        found.setdefault(reason, []).append(name)
    return found


def left_alone(evidence: Evidence) -> dict[str, str]:
    """By layer that nothing in the graph trains, why there is nothing to check, and the remedy."""
    alone = [x for x in evidence.layers if upkeep.is_left_alone(x, evidence)]
    twins = {layer.name: upkeep.twin(layer, evidence) for layer in alone}
    trained = [twin.name for twin in twins.values() if twin]
    pattern, verb = some(trained), is_or_are(trained)
    restored = "if they are restored from elsewhere, audit the checkpoint that holds them"
    nothing = "nothing in the graph trains or sets their variables"
    share = "for both to share their variables, build them in the same scope with reuse=True"
    lost = f"{nothing}, though {pattern}, called and shaped the same, {verb} trained: {share}"
    return {n: f"{lost if twin else nothing}; {restored}" for n, twin in twins.items()}


def step_notes(
    steps: Mapping[str, Collection[NodeId]], evidence: Evidence, layers: Sequence[Layer]
) -> list[str]:
    """Says which training op moves which layers' averages, where there are several ops.

    Args:
      steps: by the name of a training op, the nodes that it runs.
      evidence: the graph.
      layers: all layers.

    Returns:
      A note, or none.
    """
    moving: dict[tuple[str, ...], list[str]] = {}  # the ops, by the layers that they move
    for name, step in steps.items():
        moved = tuple(layer.name for layer in layers if evidence.is_moved(layer, step))
        moving.setdefault(moved, []).append(name)
    if len(steps) < 2 or not any(moving):
        return []
    said = (
        f"{some(ops)} {'moves' if len(ops) == 1 else 'move'} the averages of "
        f"{some(moved) if moved else 'no layer'}"
        for moved, ops in moving.items()
    )
    return ["; ".join(said)]


def unread_notes(evidence: Evidence, layers: Sequence[Layer]) -> list[str]:
    """Says which layers keep averages that nothing reads: no fault, and no use."""
    names = [layer.name for layer in layers if layer.averages and evidence.nobody_reads(layer)]
    if not names:
        return []
    return [
        f"nothing reads the averages of {some(names)}; whether training updates them is no matter"
    ]
