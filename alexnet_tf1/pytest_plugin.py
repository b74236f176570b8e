"""Gives pytest the fixture `batch_norm_audit`.

Every pytest loads it where this package is installed, so it must cost nothing: no TensorFlow, no
option, no hook. `-p no:alexnet_tf1` turns it off.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from alexnet_tf1.batchnorm.report import AuditReport


@pytest.fixture(scope="session")
def batch_norm_audit() -> Callable[..., AuditReport]:
    """Provides alexnet_tf1.testing.assert_batch_norm, which checks a TF1 graph.

    Returns:
      The function. It takes the graph and what audit_graph takes.
    """
    from alexnet_tf1.testing import assert_batch_norm

    return assert_batch_norm
