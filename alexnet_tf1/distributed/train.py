"""The loop of a worker that trains with others: the same steps, and they stop together."""

import contextlib
import signal
import time
from typing import Any, Protocol

import numpy as np
import tensorflow.compat.v1 as tf

from alexnet_tf1 import alexnet
from alexnet_tf1.config import TrainConfig
from alexnet_tf1.data.batches import Batches
from alexnet_tf1.data.dataset import Dataset
from alexnet_tf1.distributed.collectives import barrier, from_chief, meeting
from alexnet_tf1.distributed.heartbeat import Peers
from alexnet_tf1.distributed.replicas import Team, build_step
from alexnet_tf1.fast.train import ManyStepsHooks, repeat, steps_for_a_call
from alexnet_tf1.ops import Tensor
from alexnet_tf1.session import configuration, open_session
from alexnet_tf1.train import Hooks

_START, _STEP, _LEAVE = 2, 3, 4  # session calls that meet those of the other workers
_READY_KEY, _BARRIER_KEY, _FIRST_VARIABLE_KEY = 2, 3, 10  # of the collectives in them
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class WorkerHooks(ManyStepsHooks, Protocol):
    """The hooks of a loop whose workers agree on when to stop.

    Attributes:
      received: the signal that this process was given; None for none.
    """

    @property
    def received(self) -> int | None: ...  # noqa: D102

    def agree(self, signal: int) -> None:
        """Takes the signal that all stop for after this step."""


def train(
    config: TrainConfig, data: Dataset, hooks: WorkerHooks, *, team: Team, peers: Peers | None
) -> Any:
    """Trains as `alexnet_tf1.train.train` does, each replica on its part of every batch.

    The images are the same for every worker. `peers` are the others, None where this process has
    all replicas.

    Raises:
      UserError: if another worker is lost.
    """
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(config.seed)
        net = alexnet.build_for_testing(
            config.fc_batch_norm, label_smoothing=config.label_smoothing, ops=hooks.ops
        )
        feeds, fetches = _build(config, team, hooks)
        if peers:
            start, leave = _build_start(team), barrier(team.workers, _BARRIER_KEY)
        hooks.build(net._replace(train_op=fetches[0]))
        graph.finalize()
        target, machine = "", configuration(config.devices)
        if peers:
            target, machine = peers.target, peers.configuration(config.precision)
        with open_session(fast=config.fast, target=target, config=machine) as session:
            hooks.begin(session)
            if peers:
                peers.watch(session)
                _meet(session, start, _START, peers)
            step = int(session.run(net.global_step))
            mine = team.part(config.batch_size)
            batches = Batches(data.train, config.seed, hooks.augmentation, mine)
            batches.skip(step, config.batch_size)
            most = pace = 1
            while step < config.steps and not hooks.should_stop:
                steps = min(most, hooks.steps_until_due(step))
                started = time.perf_counter()
                taken = [batches.next_batch(config.batch_size) for _ in range(steps)]
                images, labels = (np.stack(column) for column in zip(*taken, strict=True))
                notes = [*(float(hooks.received == s) for s in _SIGNALS), float(pace)]
                feed = dict(zip(feeds, (images, labels, notes), strict=True))
                _, losses, accuracies, noted = _meet(session, fetches, _STEP, peers, feed)
                for number, given in zip(_SIGNALS, noted[-1], strict=False):
                    if given > 0:  # SIGTERM counts where some were given either
                        hooks.agree(number)
                if config.fast:
                    pace = steps_for_a_call(pace, (time.perf_counter() - started) / steps)
                    most = max(1, int(noted[-1][2]))
                step += steps
                hooks.after_steps(step, losses, accuracies)
            if peers:
                # Every worker takes its last step before any leaves, so that none misses another.
                peers.stop_watching()
                # Who is gone by now has its last step behind it, as this one has.
                with contextlib.suppress(tf.errors.OpError, RuntimeError):
                    session.run(leave, options=meeting(_LEAVE))
            return hooks.end(step)


def _meet(session: Any, fetches: Any, key: int, peers: Peers | None, feed: Any = None) -> Any:
    """Runs a call that the other workers run too; says who is lost where it fails."""
    if peers is None:
        return session.run(fetches, feed)
    try:
        return session.run(fetches, feed, meeting(key))
    except (tf.errors.OpError, RuntimeError) as error:
        raise peers.explain(error) from None


def _build(
    config: TrainConfig, team: Team, hooks: Hooks
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Builds K steps a call with `fast`, else one; returns what it is fed and what it gives.

    Returns:
      Placeholders: images, float32 [K, N, 3072], this worker's parts of the batches; labels, int64
      [K, N]; notes, float32 [3], 1 where this worker was given SIGINT, SIGTERM, and how many steps
      it would take in the next call. Then the op that trains the K steps; losses, float32 [K], of
      the global batches before each update, in nats; accuracies, float64 [K]; the mean of all
      workers' notes, float32 [K, 3].
    """
    images = tf.placeholder(tf.float32, [None, None, 3072], name="batches")
    labels = tf.placeholder(tf.int64, [None, None], name="answers")
    notes = tf.placeholder(tf.float32, [3], name="notes")

    def take(number: Tensor) -> tuple[Tensor, ...]:
        return build_step(images[number], labels[number], notes, config, team, hooks)

    if config.fast:
        fetches = repeat(take, tf.shape(images)[0], (tf.float32, tf.float64, tf.float32))
    else:
        train_op, *given = take(0)
        fetches = (train_op, *(value[tf.newaxis] for value in given))
    return (images, labels, notes), fetches


def _build_start(team: Team) -> Tensor:
    """Builds the op that gives every worker the chief's variables."""
    variables = tf.global_variables()
    is_chief = team.task == 0
    # A sender waits for ever for a receiver that is gone; in a ring everybody asks somebody.
    with tf.control_dependencies([barrier(team.workers, _READY_KEY)]):
        values = [tf.convert_to_tensor(variable) for variable in variables]
        found = from_chief(values, team.workers, is_chief=is_chief, first_key=_FIRST_VARIABLE_KEY)
        if not is_chief:
            found = [tf.assign(v, value) for v, value in zip(variables, found, strict=True)]
        return tf.group(*found, name="start")
