"""Runs a model at inference with its own, with the batch's and with the population's statistics."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from alexnet_tf1.batchnorm.layers.layer import Layer
from alexnet_tf1.batchnorm.model import wiring
from alexnet_tf1.batchnorm.model.averages import Kept
from alexnet_tf1.batchnorm.model.copies import Copy
from alexnet_tf1.batchnorm.model.feeds import Examples
from alexnet_tf1.batchnorm.model.prepare import Prepared
from alexnet_tf1.batchnorm.model.renorm import corrections
from alexnet_tf1.batchnorm.model.source import VARIABLES, Array, variable_key
from alexnet_tf1.batchnorm.model.spots import Spot
from alexnet_tf1.batchnorm.model.trust import refuse_untrusted
from alexnet_tf1.batchnorm.model.wiring import Form
from alexnet_tf1.batchnorm.population import Population, Statistics
from alexnet_tf1.batchnorm.rules.wording import is_or_are, some
from alexnet_tf1.errors import UserError

Progress = Callable[[str, int, int], None]  # told what is done, how much of it, of how much


class Trial:
    """A prepared model, its variables' values, and what is seen when it is run."""

    def __init__(
        self, prepared: Prepared, examples: Examples, batch_size: int, *, trust: bool = False
    ) -> None:
        """Runs the model once, on a few examples, to see what it normalises in which form.

        Args:
          prepared: the model.
          examples: what is fed; also what the statistics are estimated from.
          batch_size: examples run together.
          trust: whether operations that touch files, processes or Python may run.

        Raises:
          UserError: if the model cannot be run, or is not trusted.
        """
        self.prepared, self.examples, self._trust = prepared, examples, trust
        fixed = prepared.batch_size
        self.batch_size = fixed or min(batch_size, examples.count)
        count = examples.count - (examples.count % fixed if fixed else 0)
        if not count:
            raise UserError(f"the graph takes {fixed} examples at a time; {count} were given")
        self.rows = np.arange(count)
        spots = [spot for own in prepared.found.spots.values() for spot in own]
        edit = prepared.edit()
        self.outputs = [edit.now(output) for output in prepared.outputs]
        looked_at = {
            spot: [edit.now(t) for t in (spot.x, spot.mean, spot.variance) if t] for spot in spots
        }
        everything = [name for names in looked_at.values() for name in names]
        self._graph_def = edit.result([*self.outputs, *everything])
        self._values = self._find_values(self._graph_def)
        with self.as_it_is() as copy:
            feed = self.feed(self.rows[: fixed or 2])  # forms are to be seen, and no values
            seen = dict(zip(everything, copy.run(everything, feed), strict=True))
            self.forms: dict[Spot, Form] = {}
            self.read: dict[str, tuple[Array, Array]] = {}  # by layer, what inference reads
            for spot, names in looked_at.items():
                self.forms[spot] = _form(spot, [seen[name] for name in names], copy, names)
                if len(names) > 1:
                    self.read[spot.layer] = (seen[names[1]], seen[names[2]])
        self.corrections = corrections(self)

    def feed(self, rows: Array) -> dict[str, Any]:
        """Gives what is fed for these examples as one batch."""
        return self.prepared.feed(self.examples.batch(rows))

    @contextlib.contextmanager
    def as_it_is(self, changed: Mapping[str, Array] | None = None) -> Iterator[Copy]:
        """The model at inference, with its own values but for those changed."""
        with self._copy(self._graph_def) as copy:
            copy.set({**self._values, **(changed or {})})
            yield copy

    @contextlib.contextmanager
    def copy_of(self, graph_def: Any) -> Iterator[Copy]:
        """A changed graph, with the model's values."""
        values = self._find_values(graph_def)
        with self._copy(graph_def) as copy:
            copy.set(values)
            yield copy

    def _refuse_untrusted(self, graph_def: Any) -> None:
        executed = {node.name for node in graph_def.node}
        refuse_untrusted(graph_def, self.prepared.model.name, executed, trust=self._trust)

    def _copy(self, graph_def: Any) -> Copy:
        return Copy(graph_def, self.prepared.model.source.op_defs, self.prepared.model.name)

    def _find_values(self, graph_def: Any) -> dict[str, Array]:
        """The values of a graph's variables; refuses a graph that is not trusted."""
        self._refuse_untrusted(graph_def)
        model = self.prepared.model
        keys = {variable_key(n): n.name for n in graph_def.node if n.op in VARIABLES}
        values = model.read(keys)
        missing = {key: name for key, name in keys.items() if key not in values}
        if missing:
            values |= self._initial_values(missing)
        return values

    def _initial_values(self, missing: Mapping[str, str]) -> dict[str, Array]:
        """Runs the initialisers of those variables of which no value was saved."""
        graph_def = self.prepared.graph_def
        given = {
            node.input[0].partition(":")[0]: node.input[1]
            for node in graph_def.node
            if node.op in ("Assign", "AssignVariableOp") and node.name.endswith("/Assign")
        }
        without = sorted(name for name in missing.values() if name not in given)
        if without:
            raise UserError(
                f"{self.prepared.model.name}: {without[0]} has no value in the checkpoint, and the "
                "graph does not initialise it; give a checkpoint that holds it"
            )
        tensors = {k: t if ":" in t else f"{t}:0" for k, t in given.items()}
        fetched = [tensors[name] for name in missing.values()]
        needed = self.prepared.edit().result(fetched)
        self._refuse_untrusted(needed)
        self.prepared.remarks.append(
            f"{some(sorted(missing.values()))} {is_or_are(missing)} not in the checkpoint: the "
            "initial values were taken"
        )
        with self._copy(needed) as copy:
            return dict(zip(missing, copy.run(fetched, {}), strict=True))

    def values_of(self, keys: Iterable[str]) -> dict[str, Array]:
        """The values of those of the variables that have one: saved ones, else initial ones."""
        wanted = list(keys)
        initial = {key: self._values[key] for key in wanted if key in self._values}
        return initial | self.prepared.model.read(wanted)

    def averages(self, layer: Layer, kept: Kept) -> Statistics | None:
        """The mean and variance that a layer keeps; None where it keeps none."""
        if kept.is_read:
            read = self.read[layer.name]
            return Statistics(*(np.asarray(v, np.float64).reshape(-1) for v in read))
        held = self.values_of([*kept.mean[:1], *kept.variance[:1]])
        return (
            Statistics(*(v.astype(np.float64).reshape(-1) for v in held.values()))
            if len(held) == 2
            else None
        )

    def estimate(self, progress: Progress | None = None) -> dict[str, Statistics]:
        """Estimates the population's statistics, layer by layer in forward order (Precise-BN).

        Each layer sees its inputs as inference shows them: normalised by the layers before it with
        their new statistics. One pass over the examples a layer.

        Returns:
          By layer, mean and variance, float64 [C] each.
        """
        wired = wiring.with_given_statistics(self.prepared, self.forms)
        found: dict[str, Statistics] = {}
        given = {
            layer: Statistics(
                np.zeros(wired.given[layer][0][0][1]), np.ones(wired.given[layer][0][1][1])
            )
            for layer in wired.given
        }
        with self.copy_of(wired.graph_def) as copy:
            for number, layer in enumerate(self.prepared.found.layers):
                fetched = [name for pair in wired.moments[layer.name] for name in pair]
                population = Population()
                for start in range(0, len(self.rows), self.batch_size):
                    rows = self.rows[start : start + self.batch_size]
                    feed = self.feed(rows) | wired.feed({**given, **found})
                    moments = copy.run(fetched, feed)
                    for mean, variance in zip(moments[::2], moments[1::2], strict=True):
                        population.add(mean, variance, len(rows))
                estimated = population.statistics()
                corrected = self.corrections.get(layer.name)
                found[layer.name] = corrected.applied(estimated) if corrected else estimated
                if progress is not None:
                    progress("estimating", number + 1, len(self.prepared.found.layers))
        return found


def _form(spot: Spot, seen: list[Array], copy: Copy, names: list[str]) -> Form:
    """The form of a place, from its x, and its mean and variance if they are tensors."""
    x_dtype = copy.dtype(names[0])
    rank = np.ndim(seen[0])
    if spot.is_fused:
        channel = spot.channel % rank
        axes = tuple(axis for axis in range(rank) if axis != channel)
        size = (np.shape(seen[0])[channel],)
        return Form(axes, size, size, tf.float32, x_dtype)
    mean, variance = np.shape(seen[1]), np.shape(seen[2])
    aligned = (1,) * (rank - len(mean)) + mean
    axes = tuple(axis for axis in range(rank) if aligned[axis] == 1)
    return Form(axes, mean, variance, copy.dtype(names[1]), x_dtype)
