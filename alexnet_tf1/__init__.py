"""A faithful TF1-graph AlexNet for CIFAR-10, and the tools that prove its moving averages.

`build_alexnet` builds the network in the current `tf.Graph`; `audit_graph` checks any graph's
batch normalisations; `measure_gap` and `recalibrate_session` measure and repair those of any live
session. They are imported on first use, so that `import alexnet_tf1` does not wait for TensorFlow.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "audit_graph", "build_alexnet", "measure_gap", "recalibrate_session"]

if TYPE_CHECKING:
    from alexnet_tf1.alexnet import build_alexnet
    from alexnet_tf1.batchnorm.audit import audit_graph
    from alexnet_tf1.batchnorm.model.live import measure_gap, recalibrate_session

_HOMES = {
    "build_alexnet": "alexnet_tf1.alexnet",
    "audit_graph": "alexnet_tf1.batchnorm.audit",
    "measure_gap": "alexnet_tf1.batchnorm.model.live",
    "recalibrate_session": "alexnet_tf1.batchnorm.model.live",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'alexnet_tf1' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
