"""Computes the values that averages must have for inference to read given statistics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from alexnet_tf1.batchnorm.model.averages import Kept, kept_by
from alexnet_tf1.batchnorm.model.source import Array
from alexnet_tf1.batchnorm.model.trial import Trial
from alexnet_tf1.batchnorm.population import Statistics

_CLOSE = 1e-3  # relative; an average that float16 holds is no closer


@dataclass(frozen=True)
class Setting:
    """New values of variables.

    Attributes:
      values: by key.
      layers: by the name of each layer that was set, the keys of its averages.
      left: by the name of a layer that was not, the reason.
      unread: layers that were set and whose averages inference does not read.
    """

    values: dict[str, Array]
    layers: dict[str, list[str]]
    left: dict[str, str]
    unread: list[str]


def settings(trial: Trial, statistics: Mapping[str, Statistics]) -> Setting:
    """Computes the values that averages must have for inference to read these statistics.

    What inference makes of an average on its way (a division by 1 - decay^n; a mean of squares
    less a squared mean) is found out by running it, and undone.

    Args:
      trial: the model.
      statistics: by layer.
    """
    setting = Setting({}, {}, {}, [])
    asked: dict[str, tuple[Kept, Statistics]] = {}
    all_kept = {layer.name: kept_by(trial.prepared, layer) for layer in trial.prepared.found.layers}
    for name, kept in all_kept.items():
        old = trial.values_of([*kept.mean, *kept.variance])
        wanted = statistics[name]
        values: dict[str, Array] = {}
        for keys, value in zip((kept.mean, kept.variance), wanted, strict=True):
            for key in keys:
                if key in old and old[key].size == value.size:
                    values[key] = value.reshape(old[key].shape).astype(old[key].dtype)
        if len(values) < 2 or not set(kept.mean) & values.keys():
            setting.left[name] = "it keeps no moving mean and variance of its own"
            continue
        setting.values.update(values)
        setting.layers[name] = list(values)
        if kept.is_read:
            asked[name] = (kept, wanted)
        else:
            setting.unread.append(name)
    _undo(trial, setting, asked)
    for name in setting.layers:
        epsilon = trial.prepared.found.spots[name][0].epsilon
        setting.values.update(_auxiliary(trial, all_kept[name], setting, epsilon))
    return setting


def _undo(trial: Trial, setting: Setting, asked: Mapping[str, tuple[Kept, Statistics]]) -> None:
    """Corrects the values until inference reads what is wanted; gives up on the other layers."""
    plain = dict(setting.values)
    seen = _read(trial, plain, asked)
    pending = [name for name in asked if not _agree(seen[name], asked[name][1])]
    for correct in (_factor, _difference, _mean_of_squares, _deviation):
        for name in pending:
            kept, wanted = asked[name]
            corrected = correct(Statistics(*map(np.ravel, wanted)), seen[name])
            for keys, values in zip(kept[:2], corrected, strict=True):
                for key in keys:
                    setting.values[key] = values.reshape(plain[key].shape).astype(plain[key].dtype)
        read = _read(trial, setting.values, pending)
        pending = [name for name in pending if not _agree(read[name], asked[name][1])]
    for name in pending:
        for key in setting.layers.pop(name):
            del setting.values[key]
        setting.left[name] = "what inference reads is made of its averages in an unknown way"


def _factor(wanted: Statistics, seen: Statistics) -> Statistics:
    """Gives the averages of which inference reads a multiple."""
    return Statistics(
        *(
            value * np.divide(value, read, out=np.ones_like(value), where=read != 0)
            for value, read in zip(wanted, seen, strict=True)
        )
    )


def _difference(wanted: Statistics, seen: Statistics) -> Statistics:
    """Gives those to which inference adds something, or from which it takes something."""
    return Statistics(*(2 * value - read for value, read in zip(wanted, seen, strict=True)))


def _mean_of_squares(wanted: Statistics, seen: Statistics) -> Statistics:
    """Gives a mean and a mean of squares, from which inference takes the squared mean."""
    return Statistics(wanted.mean, wanted.variance + np.square(wanted.mean))


def _deviation(wanted: Statistics, seen: Statistics) -> Statistics:
    """Gives a mean and a deviation, which inference squares."""
    return Statistics(wanted.mean, np.sqrt(wanted.variance))


def _agree(read: Statistics, wanted: Statistics) -> bool:
    return all(
        np.allclose(one, two.reshape(-1), rtol=_CLOSE, atol=_CLOSE * np.abs(two).max(initial=0))
        for one, two in zip(read, wanted, strict=True)
    )


def _read(
    trial: Trial, values: Mapping[str, Array], layers: Iterable[str]
) -> dict[str, Statistics]:
    """Reads the layers' means and variances as inference does, with these values."""
    spots = [trial.prepared.found.spots[name][0] for name in layers]
    if not spots:
        return {}
    edit = trial.prepared.edit()
    names = [edit.now(str(tensor)) for s in spots for tensor in (s.mean, s.variance)]
    with trial.as_it_is(values) as copy:
        seen = copy.run(names, trial.feed(trial.rows[: trial.batch_size]))
    read = [np.asarray(value, np.float64).reshape(-1) for value in seen]
    pairs = zip(spots, read[::2], read[1::2], strict=True)
    return {spot.layer: Statistics(mean, variance) for spot, mean, variance in pairs}


def _auxiliary(trial: Trial, kept: Kept, setting: Setting, epsilon: float) -> dict[str, Array]:
    """Changes what averages are made of as they were: else their next update undoes the change.

    A zero-debiased average is biased / (1 - decay^n); n stays. Batch renormalisation in tf.layers
    makes its variance of a moving deviation.
    """
    found = {}
    old = trial.values_of([*kept.mean, *kept.variance, *kept.auxiliary])
    for key in kept.auxiliary:
        for average in (*kept.mean, *kept.variance):
            if key in old and average in setting.values and old[key].shape == old[average].shape:
                new = _remade(old[key], old[average], setting.values[average], epsilon)
                if new is not None:
                    found[key] = new.astype(old[key].dtype)
    return found


def _remade(part: Array, average: Array, new: Array, epsilon: float) -> Array | None:
    """Gives a part of an average for the new value; None: it is no part of it."""
    if np.allclose(np.square(part), average + epsilon, rtol=2e-3, atol=0):
        return np.asarray(np.sqrt(new + epsilon))
    is_own = np.abs(average) > 1e-12
    ratios = part[is_own] / average[is_own]
    if ratios.size and np.allclose(ratios, np.median(ratios), rtol=1e-3):
        return np.asarray(new * np.median(ratios))
    return None
