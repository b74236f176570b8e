"""Tells when something other than the next step is due in a run, and when a run must end."""

from collections.abc import Sequence

import numpy as np

from alexnet_tf1.config import TrainConfig
from alexnet_tf1.errors import UserError


def steps_until_due(config: TrainConfig, step: int) -> int:
    """Returns how many steps after `step` a line, a test, a save or the end is due; at least 1."""
    every = (config.log_every, config.test_every, config.checkpoint_every)
    return min(config.steps - step, *(cadence - step % cadence for cadence in every))


def check_finite(losses: Sequence[float], step: int, config: TrainConfig, kept: str) -> None:
    """Ends a run whose loss is infinite or not a number.

    Args:
      losses: of the last steps, in nats; the last of them is of `step`.
      step: the number of the last step.
      config: the run's settings.
      kept: what is left of the run, for the message.

    Raises:
      UserError: if one is.
    """
    finite = np.isfinite(losses)
    if not finite.all():
        bad = int(np.argmin(finite))
        raise UserError(
            f"the loss is {losses[bad]} at step {step - len(losses) + 1 + bad}; lower "
            f"--learning-rate {config.learning_rate} ({kept})"
        )
