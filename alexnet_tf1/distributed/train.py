"""Workers agree on the run, start alike, train step by step, and stop and leave together."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from alexnet_tf1.alexnet import AlexNet
from alexnet_tf1.config import TrainConfig, option
from alexnet_tf1.data.batches import Batches
from alexnet_tf1.data.dataset import Dataset
from alexnet_tf1.distributed.cluster import Cluster
from alexnet_tf1.distributed.collectives import barrier, from_chief
from alexnet_tf1.distributed.heartbeat import Peers
from alexnet_tf1.distributed.replicas import Team, build_step
from alexnet_tf1.errors import UserError
from alexnet_tf1.fast.kernels import Tensor
from alexnet_tf1.reporting.console import Console
from alexnet_tf1.runs.resume import fingerprint
from alexnet_tf1.system.signals import StopRequest

# Which runs of the workers' sessions meet: TensorFlow numbers their steps alike for each key.
_AGREE, _START, _STEP, _LEAVE = range(1, 5)
_TEXT_KEY, _READY_KEY, _BARRIER_KEY, _FIRST_VARIABLE_KEY = 1, 2, 3, 10  # of collectives' instances
_MOST_TEXT = 16_384
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# What each worker may have its own of.
_OWN = ("run_dir", "data_dir", "worker_timeout", "test_batches")


def options(key: int) -> Any:
    """RunOptions of a session call that meets those of the other workers."""
    return tf.RunOptions(experimental=tf.RunOptions.Experimental(collective_graph_key=key))


class Together(NamedTuple):
    """The parts of the graph that train with others.

    Attributes:
      net: for testing; with the train_op.
      images: float32 placeholder of this worker's parts: [N, 3072], or [K, N, 3072] for K steps in
        the graph.
      labels: int64 placeholder [N] or [K, N].
      notes: float32 placeholder [3]: 1 where this worker was given SIGINT, SIGTERM; how many steps
        it would take in the next call.
      losses: float32 [K], of the global batches, before each update, in nats.
      accuracies: float64 [K].
      noted: float32 [3], the mean of all workers' notes.
      start: what gives every worker the chief's variables; None without a cluster.
      leave: what ends when every worker runs it; None without a cluster.
    """

    net: AlexNet
    images: Tensor
    labels: Tensor
    notes: Tensor
    losses: Tensor
    accuracies: Tensor
    noted: Tensor
    start: Tensor | None
    leave: Tensor | None


def build(net: AlexNet, config: TrainConfig, team: Team) -> Together:
    """Builds them over the variables of a network that was built without a train_op."""
    notes = tf.placeholder(tf.float32, [3], name="notes")
    if config.fast:
        ends = _build_loop(net, notes, config, team)
    else:
        step = build_step(net, net.images, net.labels, notes, config, team)
        ends = (net.images, net.labels, [step.loss], [step.accuracy], step.notes, step.train_op)
    images, labels, losses, accuracies, noted, train_op = ends
    start = leave = None
    if team.cluster:
        # A sender waits for ever for a receiver that is gone; in a ring everybody asks somebody.
        with tf.control_dependencies([barrier(team.workers, _READY_KEY)]):
            start = tf.group(*_start(team), name="start")
        leave = barrier(team.workers, _BARRIER_KEY)
    return Together(
        net=net._replace(train_op=train_op),
        images=images,
        labels=labels,
        notes=notes,
        losses=losses,
        accuracies=accuracies,
        noted=noted,
        start=start,
        leave=leave,
    )


def _build_loop(net: AlexNet, notes: Tensor, config: TrainConfig, team: Team) -> tuple[Tensor, ...]:
    """Many steps in one call; see fast.build_loop. The images are fed."""
    images = tf.placeholder(tf.float32, [None, None, 3072], name="batches")
    labels = tf.placeholder(tf.int64, [None, None], name="answers")
    steps = tf.shape(images)[0]

    def body(number: Tensor, losses: Tensor, accuracies: Tensor, _: Tensor) -> tuple[Tensor, ...]:
        step = build_step(net, images[number], labels[number], notes, config, team)
        with tf.control_dependencies([step.train_op]):
            return (
                number + 1,
                losses.write(number, tf.identity(step.loss)),
                accuracies.write(number, tf.identity(step.accuracy)),
                tf.identity(step.notes),
            )

    _, losses, accuracies, noted = tf.while_loop(
        lambda number, *_: number < steps,
        body,
        (0, tf.TensorArray(tf.float32, steps), tf.TensorArray(tf.float64, steps), tf.zeros([3])),
        parallel_iterations=1,
        name="steps",
    )
    train_op = tf.group(losses.flow, name="train_op")
    tf.add_to_collection(tf.GraphKeys.TRAIN_OP, train_op)
    return images, labels, losses.stack(), accuracies.stack(), noted, train_op


def _start(team: Team) -> list[Tensor]:
    variables = tf.global_variables()
    is_chief = team.task == 0
    found = from_chief(
        [tf.convert_to_tensor(variable) for variable in variables],
        team.workers,
        is_chief=is_chief,
        first_key=_FIRST_VARIABLE_KEY,
    )
    if is_chief:
        return found
    return [tf.assign(v, value) for v, value in zip(variables, found, strict=True)]


class ParallelSteps:
    """Takes training steps with the other replicas.

    Attributes:
      most: how many steps the next call may take; the same on every worker.
      stop: where the signal is noted that the workers have agreed to stop for, after a step.
    """

    SECONDS = 0.5  # that a call with many steps may take, as in fast.FastSteps

    def __init__(
        self,
        session: Any,
        together: Together,
        batches: Batches,
        config: TrainConfig,
        asked: StopRequest,
        peers: Peers | None = None,
    ) -> None:
        """Names what steps are taken with.

        Args:
          session: with the variables.
          together: what to run.
          batches: this worker's part of the batches.
          config: the settings.
          asked: where this process's signals are noted.
          peers: the other workers, if any.
        """
        self.most = 1
        self.stop = StopRequest()
        self._pace = 1
        self._session = session
        self._together = together
        self._batches = batches
        self._config = config
        self._asked = asked
        self._peers = peers
        self._options = options(_STEP) if peers else None

    def take(self, steps: int) -> tuple[Sequence[float], Sequence[float]]:
        """Trains `steps` steps; returns the loss (nats) and accuracy of each, before its update.

        Raises:
          UserError: if another worker is lost.
        """
        started = time.perf_counter()
        parts = self._together
        losses, accuracies, noted, _ = self._run(
            [parts.losses, parts.accuracies, parts.noted, parts.net.train_op], self._feed(steps)
        )
        # SIGTERM counts where some were given either.
        for number, given in zip(_SIGNALS, noted, strict=False):
            if given > 0:
                self.stop.received = number
        if self._config.fast:
            each = (time.perf_counter() - started) / steps
            self._pace = max(1, min(2 * steps, int(self.SECONDS / each)))
            self.most = max(1, int(noted[2]))
        return losses, accuracies

    def _feed(self, steps: int) -> dict[Tensor, Any]:
        taken = [self._batches.next_batch(self._config.batch_size) for _ in range(steps)]
        images, labels = zip(*taken, strict=True)
        asked = [float(self._asked.received == number) for number in _SIGNALS]
        return {
            self._together.images: np.stack(images) if self._config.fast else images[0],
            self._together.labels: np.stack(labels) if self._config.fast else labels[0],
            self._together.notes: [*asked, float(self._pace)],
        }

    def _run(self, fetches: list[Any], feed: dict[Tensor, Any]) -> list[Any]:
        try:
            found: list[Any] = self._session.run(fetches, feed, self._options)
        except (tf.errors.OpError, RuntimeError) as error:
            if self._peers is None:
                raise
            raise self._peers.explain(error) from None
        return found

    def leave(self) -> None:
        """Waits until every worker has taken its last step, so that none misses another."""
        if self._peers is None:
            return
        self._peers.stop_watching()
        # Who is gone by now has its last step behind it, as this one has.
        with contextlib.suppress(tf.errors.OpError, RuntimeError):
            self._session.run(self._together.leave, options=options(_LEAVE))


@contextlib.contextmanager
def joined(team: Team, config: TrainConfig, data: Dataset, out: Console) -> Iterator[Peers | None]:
    """The other workers, while a chief trains with them.

    Args:
      team: who trains; without a cluster there are no others.
      config: the settings that all train with.
      data: the images.
      out: where to say whom it waits for.

    Yields:
      The others, all there and told; None without a cluster.

    Raises:
      UserError: if one does not come, or is lost.
    """
    if team.cluster is None:
        yield None
        return
    with Peers(team.cluster, team.devices, config.worker_timeout) as peers:
        out.say(f"{team.cluster.name(0)} writes the run and waits for the others")
        peers.wait()
        settings = {**dataclasses.asdict(config), "run_dir": None, "data_dir": None}
        tell(team.cluster, peers, {"config": settings, "data": fingerprint(data)})
        try:
            yield peers
        except (tf.errors.OpError, RuntimeError) as error:
            if not peers.has_lost:
                raise
            raise peers.explain(error) from None


def share_start(session: Any, together: Together, peers: Peers) -> None:
    """Gives every worker the chief's variables.

    Raises:
      UserError: if a worker is lost.
    """
    try:
        session.run(together.start, options=options(_START))
    except (tf.errors.OpError, RuntimeError) as error:
        raise peers.explain(error) from None


def tell(cluster: Cluster, peers: Peers, message: Mapping[str, Any] | None) -> dict[str, Any]:
    """Passes the chief's message to every worker.

    Args:
      cluster: who.
      peers: all there.
      message: JSON-ready; None on the others.

    Returns:
      The chief's message.

    Raises:
      UserError: if a worker is lost.
    """
    text = json.dumps(message).encode()
    if len(text) > _MOST_TEXT:
        raise UserError(f"the settings have {len(text)} bytes; a cluster's have {_MOST_TEXT}")
    padded = np.frombuffer(text.ljust(_MOST_TEXT), np.uint8).astype(np.int32)
    with tf.Graph().as_default(), tf.Session(peers.target, config=peers.configuration()) as session:
        given = tf.placeholder(tf.int32, [_MOST_TEXT])
        (told,) = from_chief(
            [given], len(cluster.addresses), is_chief=cluster.is_chief, first_key=_TEXT_KEY
        )
        try:
            found = session.run(told, {given: padded}, options(_AGREE))
        except tf.errors.OpError as error:
            raise peers.explain(error) from None
    heard: dict[str, Any] = json.loads(found.astype(np.uint8).tobytes())
    return heard


def check_wanted(cluster: Cluster, config: TrainConfig, wanted: Mapping[str, Any]) -> None:
    """Makes sure that this worker was started as the chief was.

    Args:
      cluster: who.
      config: the chief's settings.
      wanted: this worker's, by field name.

    Raises:
      UserError: if they differ.
    """
    for name, value in wanted.items():
        chiefs = getattr(config, name)
        if name in _OWN or value == chiefs or (name == "dataset" and value == "auto"):
            continue
        raise UserError(
            f"{cluster.name(cluster.task)} was started with {option(name)} {value}, "
            f"{cluster.name(0)} with {chiefs}; start every worker with the same options"
        )
