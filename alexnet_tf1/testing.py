"""Asserts in the tests of any TF1 project that the audit finds no fault.

With pytest, the fixture `batch_norm_audit` is `assert_batch_norm`: the package brings it as a
pytest plugin, so it needs no import. TensorFlow is imported in the call only.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alexnet_tf1.batchnorm.report import AuditReport

__all__ = ["assert_batch_norm"]


def assert_batch_norm(
    graph: Any,
    train_ops: Any = None,
    logits: Any = None,
    is_training: Any = None,
    *,
    training_only: bool = False,
    inference: Any = None,
    select: Any = None,
    ignore: Any = None,
) -> AuditReport:
    """Asserts that training updates all moving averages and that inference reads them.

    Args:
      graph: tf.Graph, GraphDef, MetaGraphDef or SavedModel; or the path of a model, in any
        form that `alexnet-tf1 audit` takes.
      train_ops: the training operation, or all of them: operations, tensors or names.
        None: found; an empty list: the graph does not train.
      logits: the tensor or tensors that inference computes, or their names. None: found.
      is_training: the training switch, a tensor, variable or name (or a list of several);
        a Python bool says the graph was built with a constant. None: found, if there is one.
      training_only: the graph has no inference in it; the rules of inference are left out.
      inference: the graph that infers, where it is another one, or its path.
      select: the rules to check: "BN101", a prefix as "BN2", or "BN203:critic/*" with a glob of
        layers; one text with commas, or several. None: all.
      ignore: rules not to check, in the same form.

    Returns:
      The report: its layers, and notes on what was found and what could not be checked.

    Raises:
      AssertionError: if there are faults, with a line each: rule, layer, what is wrong, remedy;
        or if nothing was checked, as in a graph without batch normalisation.
      UserError: if a name is not in the graph, or a file cannot be used.
    """
    __tracebackhide__ = True  # pytest shows the caller's line, not this one
    from alexnet_tf1.batchnorm.audit import audit_file, audit_graph

    audit = audit_file if isinstance(graph, (str, os.PathLike)) else audit_graph
    report = audit(
        graph,
        train_ops,
        logits,
        is_training,
        training_only=training_only,
        inference=inference,
        select=select,
        ignore=ignore,
    )
    if not any(report.checked.values()) and not report.faults:
        raise AssertionError(f"nothing was checked: {'; '.join(report.left_out.values())}")
    if report.faults:
        count = len(report.faults)
        lines = [f"{count} batch-normalisation fault{'s' * (count != 1)}"]
        lines += [f"{rule} {layer}: {message}" for rule, layer, message in report.faults]
        raise AssertionError("\n".join(lines))
    return report
