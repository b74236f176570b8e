"""Compares a graph that infers with the graph that trains for it, by the names of variables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from alexnet_tf1.batchnorm.graph.node import VariableId
from alexnet_tf1.batchnorm.layers.layer import Layer
from alexnet_tf1.batchnorm.rules import upkeep
from alexnet_tf1.batchnorm.rules.evidence import Evidence
from alexnet_tf1.batchnorm.rules.wording import is_or_are, it_or_them


class Unkept(NamedTuple):
    """A layer of the inference graph whose averages training does not provide."""

    layer: Layer
    message: str


def never_updated(inference: Evidence, training: Evidence) -> Iterator[Unkept]:
    """Finds averages that one graph reads and that the other has and never updates: BN102.

    Averages that the training graph normalises with as they are, or that the checkpoint beside it
    holds trained values for, are frozen on purpose.
    """
    frozen = {v for x in training.layers if not training.trains_on_batch(x) for v in x.stored}
    updated = {v for layer in training.layers for v in layer.updates}
    for layer, variables in _read(inference, training):
        never = [
            v
            for v in variables.values()
            if v is not None and v not in frozen | updated and not upkeep.has_update(v, training)
        ]
        if never and not training.has_moved(never):
            yield Unkept(
                layer,
                f"{training.names(never)} {is_or_are(never)} read in the inference graph and "
                f"nothing in the graph that trains updates {it_or_them(never)}; average the batch "
                f"moments into {it_or_them(never)} there and make the training op depend on that",
            )


def strangers(inference: Evidence, training: Evidence) -> list[str]:
    """The averages that the inference graph reads and the training graph does not have."""
    read = _read(inference, training)
    return [name for _, variables in read for name, v in variables.items() if v is None]


def _read(
    inference: Evidence, training: Evidence
) -> Iterator[tuple[Layer, dict[str, VariableId | None]]]:
    """By layer, the averages that inference reads, and the variables that training has for them.

    They have the same name, or a Saver of one graph saves them under that of the other.
    """
    keys: dict[VariableId, list[str]] = {}
    for key, variable in inference.saved.items():
        keys.setdefault(variable, []).append(key)
    known = {name: v for v, name in training.variables.names.items()} | training.saved
    for layer in inference.layers:
        found: dict[str, VariableId | None] = {}
        for variable in inference.stored_in_inference(layer):
            name = inference.variables.names[variable]
            names = [*keys.get(variable, ()), name]
            found[name] = next((known[n] for n in names if n in known), None)
        if found:
            yield layer, found
