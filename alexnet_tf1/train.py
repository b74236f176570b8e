"""The session loop: a graph, a session, and step after step a batch and a `session.run`."""

from typing import Any, Protocol

import tensorflow.compat.v1 as tf

from alexnet_tf1.alexnet import AlexNet, build_alexnet
from alexnet_tf1.config import TrainConfig
from alexnet_tf1.data.batches import Batches
from alexnet_tf1.data.dataset import Dataset
from alexnet_tf1.session import open_session


class Hooks(Protocol):
    """The surroundings of a loop: it takes what it needs from them, and tells them of its steps.

    Attributes:
      optimizer: the tf.train.Optimizer that changes the weights.
      ops: what the network computes with.
      augmentation: what changes training images before a step; None for nothing.
      should_stop: whether the loop is to end before its last step.
    """

    optimizer: Any
    ops: Any
    augmentation: Any

    @property
    def should_stop(self) -> bool: ...  # noqa: D102

    def build(self, net: AlexNet) -> None:
        """Adds to the graph what saves and initialises; then the graph is complete."""

    def begin(self, session: Any) -> int:
        """Gives every variable its value; returns the number of steps already trained."""

    def after_step(self, step: int, loss: float, accuracy: float) -> None:
        """Takes the loss (nats) and accuracy of the batch of a step, before its update."""

    def end(self, step: int) -> Any:
        """Ends training after `step`; the loop returns what this returns."""


def train(config: TrainConfig, data: Dataset, hooks: Hooks) -> Any:
    """Trains the network as the original does.

    Args:
      config: the settings.
      data: the images.
      hooks: what surrounds the loop.

    Returns:
      What `hooks.end` returns.
    """
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(config.seed)
        net = build_alexnet(
            config.update_ops,
            config.fc_batch_norm,
            optimizer=hooks.optimizer,
            label_smoothing=config.label_smoothing,
            ops=hooks.ops,
        )
        hooks.build(net)
        graph.finalize()
        with open_session() as session:
            step = hooks.begin(session)
            batches = Batches(data.train, config.seed, hooks.augmentation)
            batches.skip(step, config.batch_size)
            while step < config.steps and not hooks.should_stop:
                images, labels = batches.next_batch(config.batch_size)
                loss, accuracy, _ = session.run(
                    [net.loss, net.accuracy, net.train_op],
                    {net.images: images, net.labels: labels, net.is_training: True},
                )
                step += 1
                hooks.after_step(step, loss, accuracy)
            return hooks.end(step)
