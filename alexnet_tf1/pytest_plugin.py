"""The pytest plugin, loaded by every pytest that runs where this package is installed.

So it must cost nothing: no TensorFlow, no option, no hook, one fixture. `-p no:alexnet_tf1` turns
it off.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from alexnet_tf1.batchnorm.report import AuditReport


@pytest.fixture(scope="session")
def batch_norm_audit() -> Callable[..., AuditReport]:
    """Checks a TF1 graph's moving averages: alexnet_tf1.testing.assert_batch_norm.

    Returns:
      The function, to be called with the graph, train_ops, logits and is_training.
    """
    from alexnet_tf1.testing import assert_batch_norm

    return assert_batch_norm
