"""Hooks that keep what a loop tells of its steps, in the place of those of a run."""

import numpy as np
import tensorflow.compat.v1 as tf

from alexnet_tf1.ops import ORIGINAL


class Recorder:
    """Records every loss; `end` returns them with the values of all variables, by name.

    Args:
      optimizer: what trains; None for the original's.
      ops: what the network computes with.
      calls: how many steps each session call may take, where the loop takes several.
    """

    augmentation = None
    should_stop = False

    def __init__(self, optimizer=None, ops=ORIGINAL, calls=()):
        self.optimizer = optimizer
        self.ops = ops
        self.losses = []
        self._calls = list(calls)

    def build(self, net):
        self.net = net
        self._initialise = tf.global_variables_initializer()
        self._variables = {v.op.name: v for v in tf.global_variables()}

    def begin(self, session):
        self._session = session
        session.run(self._initialise)
        return 0

    def steps_until_due(self, step):
        return self._calls.pop(0)

    def after_step(self, step, loss, accuracy):
        self.after_steps(step, [loss], [accuracy])

    def after_steps(self, step, losses, accuracies):
        self.losses.extend(losses)
        assert len(self.losses) == step

    def end(self, step):
        return np.array(self.losses), self._session.run(self._variables)
