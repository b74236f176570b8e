"""The session loop: steps, and now and then a line, a test, a save."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from alexnet_tf1.alexnet import AlexNet
from alexnet_tf1.config import TrainConfig
from alexnet_tf1.data.batches import Batches
from alexnet_tf1.data.dataset import Dataset, Split
from alexnet_tf1.distributed.train import ParallelSteps
from alexnet_tf1.errors import UserError
from alexnet_tf1.fast import train as fast
from alexnet_tf1.reporting import console, progress
from alexnet_tf1.reporting.console import Console
from alexnet_tf1.runs import folder as runs
from alexnet_tf1.runs.resume import Start
from alexnet_tf1.supervisor import periodic_test as midway
from alexnet_tf1.supervisor.tensorboard import Events
from alexnet_tf1.system.signals import Stopped, StopRequest


class Outcome(NamedTuple):
    """How the loop ended.

    Attributes:
      steps: steps trained, those before a resumption included.
      loss: of the last step, in nats, before its update; None where none was taken.
      wall_s: seconds from this process's first step to its last, tests and checkpoints included.
      stopped_by: the signal that ended it early, or None.
    """

    steps: int
    loss: float | None
    wall_s: float
    stopped_by: int | None


class Steps:
    """Takes training steps as the original does: a batch, a session.run.

    Attributes:
      most: how many steps the next call may take.
    """

    most = 1

    def __init__(self, session: Any, net: AlexNet, batches: Batches, batch_size: int) -> None:
        self._session = session
        self._net = net
        self._batches = batches
        self._batch_size = batch_size

    def take(self, steps: int) -> tuple[Sequence[float], Sequence[float]]:
        """Trains one step; returns its loss in nats and its accuracy, before the update."""
        net = self._net
        images, labels = self._batches.next_batch(self._batch_size)
        loss, accuracy, _ = self._session.run(
            [net.loss, net.accuracy, net.train_op],
            {net.images: images, net.labels: labels, net.is_training: True},
        )
        return [loss], [accuracy]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loop:
    """The original's loop over one run.

    Attributes:
      run: where it logs and saves.
      data: the data set.
      net: the network, for testing.
      steps: what trains.
      session: with the variables.
      saver: writes the checkpoints.
      events: TensorBoard's event file.
      stop: where a request to stop is noted.
      out: takes its lines.
    """

    run: runs.Run
    data: Dataset
    net: AlexNet
    steps: Steps | fast.FastSteps | ParallelSteps
    session: Any
    saver: Any
    events: Events
    stop: StopRequest
    out: Console

    def train(self, start: Start) -> Outcome:
        """Trains from `start` to the run's last step, or until a signal.

        Raises:
          UserError: if the loss is not finite.
        """
        config = self.run.config
        step, loss = start.step, None
        stopping = start.test_is_due and not self._test(step)
        started = logged = time.perf_counter()
        with progress.bar(config.steps, quiet=self.out.quiet) as advance:
            while step < config.steps and not stopping:
                most = min(self.steps.most, until_next_event(config, step))
                losses, accuracies = self.steps.take(most)
                check_finite(losses, step, config, f"{self.run.folder} keeps what was logged")
                step += len(losses)
                loss, accuracy = float(losses[-1]), float(accuracies[-1])
                if step % config.log_every == 0:
                    now = time.perf_counter()
                    # The first line after a resumption may cover fewer steps than the others.
                    covered = min(config.log_every, step - start.step)
                    rate = covered * config.batch_size / (now - logged)
                    logged = now
                    self._log(step, loss, accuracy, rate)
                stopping = self.stop.received is not None
                test = step % config.test_every == 0 and not stopping
                save = step % config.checkpoint_every == 0 or step == config.steps or stopping
                # Testing moves the averages of the original's fully connected layers. A
                # checkpoint is from before its step's test, so that who resumes there does the
                # test again.
                if save:
                    self._save(step)
                if test and not self._test(step):
                    stopping = True
                    if not save:
                        self._save(step)
                advance(step)
        wall_s = time.perf_counter() - started
        return Outcome(step, loss, wall_s, self.stop.received if stopping else None)

    def _log(self, step: int, loss: float, accuracy: float, images_per_s: float) -> None:
        stand_in = console.of(self.data)
        self.out.say(f"[Train] Step: {step}, loss: {loss:.5f}, acc:{accuracy:.5f}{stand_in}")
        self.run.log(step=step, loss=loss, accuracy=accuracy, images_per_s=images_per_s)
        self.events.trained(step, loss, accuracy, images_per_s)

    def _save(self, step: int) -> None:
        prefix = str(self.run.checkpoints / "model.ckpt")
        self.saver.save(self.session, prefix, global_step=step)

    def _test(self, step: int) -> bool:
        """Tests the first batches and logs it; if a signal comes, False, as if not begun."""
        config = self.run.config
        images = first_batches(self.data, config)
        try:
            found = midway.test(self.session, self.net, images, config.batch_size, self.stop)
        except Stopped:
            return False
        self.out.say(f"[Test] Step: {step}, acc:{found.accuracy:.5f}{console.of(self.data)}")
        self.run.log(
            step=step,
            test_accuracy=found.accuracy,
            batch_statistics_accuracy=found.batch_statistics_accuracy,
        )
        self.events.tested(step, found)
        return True


def check_finite(losses: Any, step: int, config: TrainConfig, kept: str) -> None:
    """Ends a run whose loss, `losses` after `step`, is infinite or not a number.

    Args:
      losses: of the steps after `step`, in nats.
      step: before them.
      config: the run's settings.
      kept: what is left of the run, for the message.

    Raises:
      UserError: if one is.
    """
    finite = np.isfinite(losses)
    if not finite.all():
        bad = int(np.argmin(finite))
        raise UserError(
            f"the loss is {losses[bad]} at step {step + 1 + bad}; lower --learning-rate "
            f"{config.learning_rate} ({kept})"
        )


def until_next_event(config: TrainConfig, step: int) -> int:
    """How many steps there are until something else is due: a line, a test, a save, the end."""
    every = (config.log_every, config.test_every, config.checkpoint_every)
    return min(config.steps - step, *(cadence - step % cadence for cadence in every))


def first_batches(data: Dataset, config: TrainConfig) -> Split:
    """The test images of a [Test] line: the first test_batches batches of the test set."""
    images = config.test_batches * config.batch_size
    return Split(data.test.images[:images], data.test.labels[:images])
