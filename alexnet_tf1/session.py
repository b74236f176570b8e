"""Opens sessions and settles how they use the machine: placement, GPU memory, TF32."""

from collections.abc import Sequence
from typing import Any

import tensorflow.compat.v1 as tf


def open_session(*, fast: bool = False, target: str = "", config: Any = None) -> Any:
    """Opens a session of the current default graph.

    Ops go to the first GPU where there is one, else to the CPU; an op without a GPU kernel goes
    to the CPU. GPU memory grows as needed, so that others may use the rest. A GPU multiplies
    float32 in full, as the original's did, unless `fast` lets it round factors to TF32 (10 bits
    of mantissa); TensorFlow keeps that switch for the whole process. On a CPU none of this
    changes a bit.

    Args:
      fast: whether a GPU may use TF32.
      target: of a server in this process; empty for none.
      config: from `configuration`, if anything was added to it.
    """
    tf.config.experimental.enable_tensor_float_32_execution(fast)
    return tf.Session(target, config=config or configuration())


def configuration(devices: int = 1) -> Any:
    """The ConfigProto of a session; the CPU is taken for so many devices, where there is no GPU."""
    config = tf.ConfigProto(allow_soft_placement=True)
    config.gpu_options.allow_growth = True
    if devices > 1:
        config.device_count["CPU"] = devices
    return config


def set_variables(session: Any, variables: Sequence[Any], values: Sequence[Any]) -> None:
    """Sets variables in a finalised graph: their initialisers take a value like any other op."""
    initialisers = [variable.initializer for variable in variables]
    given = [initialiser.inputs[1] for initialiser in initialisers]
    session.run(initialisers, dict(zip(given, values, strict=True)))


def describe(*, fast: bool, precision: str) -> dict[str, Any]:
    """Describes what was settled, for result.json."""
    return {
        "precision": precision,
        "fast": fast,
        "tf32_on_gpu": fast,
        "gpu_memory": "grows as needed",
        "placement": "first GPU if any, else CPU; ops without a GPU kernel on the CPU",
        "xla": False,
    }
