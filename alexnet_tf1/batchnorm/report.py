"""The reports of the audit and of the doctor, and the faults in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from alexnet_tf1.batchnorm.checkpoint.statistics import MeasuredLayer


# What must be there for a rule to be checked.
Need = Literal["training", "inference", "saving", "checkpoint"]


class Fault(NamedTuple):
    """One fault of one layer.

    Attributes:
      rule: the rule's identifier, e.g. "BN101"; docs/rules.md lists them.
      layer: the layer's name, e.g. "batch_normalization_1".
      message: what is wrong, in which variable, and the remedy, in one line.
    """

    rule: str
    layer: str
    message: str


@dataclass
class AuditReport:
    """The answer of an audit.

    Attributes:
      layers: each batch normalisation's name and its moving averages' operation names.
      faults: in the order of the layers, then of the rules.
      notes: what was chosen for the caller, and how to have checked what could not be.
      checked: by family of rules, "training" and "inference", the layers that they looked at.
      left_out: by family, what it could not check; an empty report checked every layer by all.
    """

    layers: list[tuple[str, list[str]]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    checked: dict[str, list[str]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def joined(self, inference: AuditReport) -> AuditReport:
        """This report of a graph that trains, and that of the graph that infers, as one."""
        known = {name for name, _ in self.layers}
        return AuditReport(
            [*self.layers, *(layer for layer in inference.layers if layer[0] not in known)],
            [*self.faults, *inference.faults],
            [*self.notes, *(f"inference: {note}" for note in inference.notes)],
            {**self.checked, **inference.checked},
            {**self.left_out, **inference.left_out},
        )

    def to_json(self, graph_name: str) -> dict[str, Any]:
        """The report as `audit --json` prints it, of a graph called `graph_name`; strict JSON."""
        return {
            "graph": graph_name,
            "layers": [{"name": n, "moving_averages": list(a)} for n, a in self.layers],
            "faults": [fault._asdict() for fault in self.faults],
            "notes": list(self.notes),
            "checked": {**self.checked, "left_out": list(self.left_out.values())},
        }


@dataclass
class CheckpointReport:
    """The answer of the doctor.

    Attributes:
      checkpoint: the prefix that was examined, as Saver.restore takes it.
      layers: the batch normalisations, in the order of their names.
      faults: in the order of the layers, then of the rules.
      notes: what was assumed, and oddities that are no faults, one line each.
    """

    checkpoint: str
    layers: list[MeasuredLayer]
    faults: list[Fault]
    notes: list[str]

    def to_json(self) -> dict[str, Any]:
        """The report as `doctor --json` prints it; strict JSON."""
        return {
            "checkpoint": self.checkpoint,
            "layers": [
                {
                    "name": layer.name,
                    "moving_averages": [found.variable for found in layer.statistics],
                    "statistics": [found.to_json() for found in layer.statistics],
                }
                for layer in self.layers
            ],
            "faults": [fault._asdict() for fault in self.faults],
            "notes": list(self.notes),
        }
