"""Measures and repairs the model of a live session; what `alexnet_tf1` offers in Python."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from alexnet_tf1.batchnorm.audit import audit_graph
from alexnet_tf1.batchnorm.model.diagnose import BATCH_SIZE, begin, measure
from alexnet_tf1.batchnorm.model.feeds import examples_of
from alexnet_tf1.batchnorm.model.repair import describe_repair
from alexnet_tf1.batchnorm.model.setting import settings
from alexnet_tf1.batchnorm.model.source import Array, live_model, variable_key
from alexnet_tf1.errors import UserError

EXAMPLES = 1_000  # more changes an accuracy by less than its noise: docs/gap.md


def measure_gap(
    session: Any,
    feeds: Any,
    *,
    logits: Any = None,
    is_training: Any = None,
    labels: Any = None,
    batch_size: int = BATCH_SIZE,
    examples: int | None = EXAMPLES,
) -> dict[str, Any]:
    """Measures how far inference lies from training in a live session's model.

    The session is only read: the measuring is done in a copy of its graph.

    Args:
      session: a tf.Session whose variables are initialised.
      feeds: what to feed: a dict of whole arrays, [N, ...] each, or an iterable of feed dicts, by
        tensor or name. What is no array of examples is fed as it is, such as a keep probability.
      logits: the output, a tensor or name; None: found.
      is_training: the training switch, as for audit_graph; it is not fed.
      labels: int [N], the class numbers of the examples; None: outputs are compared, not judged.
      batch_size: examples a batch.
      examples: the most to use, the first ones; None: all.

    Returns:
      What diagnose.json holds; `found["gap_points"]` is batch-statistics minus inference accuracy,
      in percentage points, or None without labels.

    Raises:
      UserError: if the model cannot be run so.
    """
    given = examples_of(feeds, examples)
    trial = begin(live_model(session), given, logits, is_training, batch_size, trust=True)
    truth = None if labels is None else np.asarray(labels)[: given.count]
    audited = audit_graph(session.graph, None, logits, is_training)
    return measure(trial, labels=truth, faults=audited.faults, notes=audited.notes)


def recalibrate_session(
    session: Any,
    feeds: Any,
    *,
    logits: Any = None,
    is_training: Any = None,
    batch_size: int = BATCH_SIZE,
    examples: int | None = EXAMPLES,
) -> dict[str, Any]:
    """Sets a live session's moving averages to the population's statistics (Precise-BN).

    Nothing else in the session changes, and nothing is added to its graph; save it with your own
    Saver. Arguments as for `measure_gap`.

    Returns:
      layers (name, moving_averages, mean_distance and variance_distance of the old ones), examples,
      batch_size, notes.

    Raises:
      UserError: if the model cannot be run so, or keeps no averages.
    """
    given = examples_of(feeds, examples)
    trial = begin(live_model(session), given, logits, is_training, batch_size, trust=True)
    statistics = trial.estimate()
    setting = settings(trial, statistics)
    described = describe_repair(trial, statistics, setting)
    if not setting.values:
        name, reason = next(iter(setting.left.items()))
        raise UserError(f"the session has no moving averages to set ({name}: {reason})")
    assign(session, setting.values)
    return described


def assign(session: Any, values: Mapping[str, Array]) -> None:
    """Sets variables of a session by the graph's own assignments, with the values fed.

    Args:
      session: the session.
      values: by variable key, see `source.variable_key`.

    Raises:
      UserError: if the graph holds nothing that sets one of them.
    """
    found: dict[str, Any] = {}
    for operation in session.graph.get_operations():
        if operation.type in ("Assign", "AssignVariableOp"):
            key = variable_key(operation.inputs[0].op.node_def)
            is_feedable = session.graph.is_feedable(operation.inputs[1])
            if key in values and is_feedable and not operation.control_inputs:
                found.setdefault(key, operation)
    missing = sorted(values.keys() - found.keys())
    if missing:
        raise UserError(f"the graph holds no operation that assigns {missing[0]}; it was not set")
    for key, value in values.items():
        session.run(found[key], {found[key].inputs[1]: value})
