"""One step on several replicas: each trains on its part of the batch, all take the same step."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow.compat.v1 as tf

from alexnet_tf1 import alexnet
from alexnet_tf1.config import TrainConfig
from alexnet_tf1.distributed.cluster import Cluster
from alexnet_tf1.distributed.collectives import Replica, average_fused
from alexnet_tf1.errors import UserError
from alexnet_tf1.ops import Ops, Tensor, custom_gradient
from alexnet_tf1.system import hardware
from alexnet_tf1.train import Hooks


@dataclasses.dataclass(frozen=True)
class Team:
    """The devices of the workers that train a run together; each has a replica of the network.

    Attributes:
      cluster: the workers; None for this process alone.
      devices: of each worker.
    """

    cluster: Cluster | None = None
    devices: int = 1

    @property
    def task(self) -> int:
        """This worker's place; 0 writes the run folder."""
        return self.cluster.task if self.cluster else 0

    @property
    def workers(self) -> int:
        """The number of workers."""
        return len(self.cluster.addresses) if self.cluster else 1

    @property
    def replicas(self) -> int:
        """The number of copies of the network that train."""
        return self.workers * self.devices

    def part(self, batch_size: int) -> slice:
        """The rows of a global batch that this worker trains on.

        Raises:
          UserError: if the batch does not split evenly.
        """
        each, left = divmod(batch_size, self.replicas)
        if left:
            lower = batch_size - left
            near = f"{lower} or {lower + self.replicas}" if lower else f"{self.replicas}"
            raise UserError(
                f"--batch-size {batch_size} does not split evenly over {self.replicas} replicas "
                f"(workers times --devices); use {near}"
            )
        first = self.task * self.devices
        return slice(first * each, (first + self.devices) * each)

    def check(self, config: TrainConfig) -> None:
        """Makes sure that these settings can be trained with by all of them.

        Raises:
          UserError: if a batch does not split evenly, or there are GPUs, but not so many.
        """
        self.part(config.batch_size)
        gpus = hardware.gpus()
        if gpus and self.devices > gpus:
            raise UserError(
                f"--devices {self.devices}: this machine has {gpus}; use at most {gpus}"
            )


def build_step(
    images: Tensor, labels: Tensor, notes: Tensor, config: TrainConfig, team: Team, hooks: Hooks
) -> tuple[Tensor, ...]:
    """Builds the training step over the variables of a network in the current graph.

    Each device has the network once more, on the same variables, always in training. The loss,
    hits and notes travel with the gradients, in one all-reduce.

    Args:
      images: float32 [N, 3072], this worker's part of the global batch.
      labels: int64 [N].
      notes: float32 [M], what this worker has to say.
      config: the settings that the network was built for.
      team: who trains.
      hooks: with the optimizer and the ops.

    Returns:
      The op that trains the step; its loss, float32 [], the mean over the global batch, in nats;
      its accuracy, float64 []; the mean of what every worker noted, float32 [M].
    """
    each, gpu = config.batch_size // team.replicas, hardware.gpus() > 0
    variables = tf.trainable_variables()
    # The updates of the network that serves for testing are not training's.
    tf.get_default_graph().clear_collection(tf.GraphKeys.UPDATE_OPS)
    averaged, totals = [], []
    for device in range(team.devices):
        rows = slice(device * each, (device + 1) * each)
        replica = Replica(team.replicas, gpu=gpu)
        ops = hooks.ops._replace(moves_averages=device == 0)  # once in each process
        if not config.local_batch_norm:
            ops = replica.synchronised(ops)
        place = f"/device:{'GPU' if gpu else 'CPU'}:{device}" if team.devices > 1 else None
        with tf.device(place), tf.name_scope(f"replica_{device}"):
            loss, hits = _loss_and_hits(images[rows], labels[rows], config, ops)
            gradients = tf.gradients(loss, variables)
            more = tf.concat([[loss, hits], notes], 0)
            mean_gradients, mean_more = average_fused(replica, gradients, more)
            averaged.append(mean_gradients)
            totals.append(mean_more)
    # Every device's collective must run, though the first one's results are all that is used.
    with tf.control_dependencies(totals[1:]):
        loss, hits, *noted = tf.unstack(tf.identity(totals[0]))
    loss = _with_gradients(loss, variables, averaged[0])
    train_op = alexnet.minimize(loss, config.update_ops, hooks.optimizer)
    accuracy = tf.cast(tf.round(hits * team.replicas), tf.float64) / config.batch_size
    return train_op, loss, accuracy, tf.stack(noted)


def _loss_and_hits(
    images: Tensor, labels: Tensor, config: TrainConfig, ops: Ops
) -> tuple[Tensor, Tensor]:
    """A replica's mean loss in nats, and how many images it classified as labelled; float32."""
    with tf.variable_scope(tf.get_variable_scope(), reuse=True):
        logits = alexnet.inference(images, True, config.fc_batch_norm, ops)
    loss = alexnet.cross_entropy(labels, logits, config.label_smoothing)
    hits = tf.equal(tf.argmax(logits, 1), labels)
    return loss, tf.reduce_sum(tf.cast(hits, tf.float32))


def _with_gradients(loss: Tensor, variables: Sequence[Tensor], gradients: list[Tensor]) -> Tensor:
    """The loss as a function of the variables whose gradients are known: any optimiser takes it."""

    @custom_gradient
    def known(loss: Tensor, *values: Tensor) -> Any:
        # What comes back to the loss would be 1: nothing between it and an optimiser scales it.
        return tf.identity(loss), lambda _: (None, *gradients)

    return known(tf.stop_gradient(loss), *(tf.convert_to_tensor(v) for v in variables))
