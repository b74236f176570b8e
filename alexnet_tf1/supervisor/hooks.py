"""Surrounds the steps of a run with lines, tests and checkpoints, and ends it."""

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow.compat.v1 as tf

from alexnet_tf1 import evaluate, files
from alexnet_tf1.alexnet import AlexNet
from alexnet_tf1.data.dataset import Dataset
from alexnet_tf1.fast.kernels import ops_for
from alexnet_tf1.recipes.augment import augmentation_for
from alexnet_tf1.recipes.kernels import prepared
from alexnet_tf1.recipes.optimizer import optimizer_for
from alexnet_tf1.reporting import confusion, console, event_images, progress
from alexnet_tf1.reporting.console import Console
from alexnet_tf1.runs.folder import METRICS, Run
from alexnet_tf1.runs.network import restore_all
from alexnet_tf1.runs.resume import Start
from alexnet_tf1.runs.saving import save
from alexnet_tf1.runs.schedule import check_finite, steps_until_due
from alexnet_tf1.session import set_variables
from alexnet_tf1.supervisor import periodic_test
from alexnet_tf1.supervisor.tensorboard import Events
from alexnet_tf1.system.gpu import Finding
from alexnet_tf1.system.signals import Stopped, StopRequest


class Outcome(NamedTuple):
    """The end of a run's training."""

    steps: int  # trained, those before a resumption included
    loss: float | None  # of the last step, in nats, before its update; None where none was taken
    wall_s: float  # from this process's first step to its last, tests and checkpoints included
    stopped_by: int | None  # the signal that ended it early
    accuracies: dict[str, float] | None  # as in result.json; None where a signal came before


class RunHooks(contextlib.ExitStack):
    """Surrounds the loop of a run; a context manager that closes what the loop used.

    The attributes are those of train.Hooks and, for `received`, of distributed.train.
    """

    def __init__(
        self,
        run: Run,
        data: Dataset,
        start: Start,
        out: Console,
        *,
        found_gpu: Finding,
        replicas: int,
    ) -> None:
        """Names what the loop works with; several replicas stop when all have agreed to."""
        super().__init__()
        self.optimizer = optimizer_for(run.config)
        self.ops = ops_for(run.config)
        self.augmentation = augmentation_for(run.config, len(data.train.labels))
        self._run = run
        self._config = run.config
        self._data = data
        self._start = start
        self._out = out
        self._found_gpu = found_gpu
        self._signals = StopRequest()
        self._stop = self._signals if replicas == 1 else StopRequest()
        self.should_stop = False  # after this step, for a signal
        self._kept: Sequence[str] = start.kept

    @property
    def received(self) -> int | None:
        """The signal that this process was given; None for none."""
        return self._signals.received

    def agree(self, signal: int) -> None:
        """Ends the run after this step, as all replicas have agreed to, for a signal."""
        self._stop.received = signal

    def build(self, net: AlexNet) -> None:
        """Adds what initialises and saves the variables to the graph."""
        self._net = net
        self._initialise = tf.global_variables_initializer()
        self._saver = tf.train.Saver(max_to_keep=self._config.keep, save_relative_paths=True)

    def begin(self, session: Any) -> int:
        """Initialises or restores every variable, and says what is about to be trained."""
        self._session = session
        self.enter_context(self._signals)
        session.run(self._initialise)
        if self._config.kernels == "prepared":
            kernels = [v for v in tf.trainable_variables() if v.shape.rank == 4]
            random = session.run(kernels)
            set_variables(session, kernels, prepared(random, self._data.train.images))
        self._out.introduce(self._run, self._data, self._net, self._found_gpu)
        if self._start.checkpoint:
            restore_all(session, self._saver, self._start.checkpoint)
            meta = f"{self._start.checkpoint}.meta"
            if not os.path.exists(meta):  # it is written last: a kill came before
                self._saver.export_meta_graph(meta)
        if self._start.resumed:
            self._out.say(f"resumed after step {self._start.step:,}")
        (self._run.folder / METRICS).touch()
        self._events = self.enter_context(Events(self._run.folder, session.graph))
        records = self._run.metrics()
        last = (r["loss"] for r in records if r["step"] == self._start.step and "loss" in r)
        self._loss: float | None = next(last, None)
        self._events.begin(self._config, self._start.step, records)
        # Closed before the final test: a bar is of steps.
        self._bar = self.enter_context(contextlib.ExitStack())
        steps, done = self._config.steps, self._start.step
        bar = progress.bar(steps, "steps", done=done, quiet=self._out.quiet)
        self._advance: Callable[[int], None] = self._bar.enter_context(bar)
        if self._start.test_is_due and not self._test(self._start.step):
            self.should_stop = True
        self._began = self._logged_at = time.perf_counter()
        self._logged = self._start.step
        return self._start.step

    def steps_until_due(self, step: int) -> int:
        """Returns how many steps may follow `step` before a line, a test or a save is due."""
        return steps_until_due(self._config, step)

    def after_step(self, step: int, loss: float, accuracy: float) -> None:
        """As `after_steps`, for a session call of one step."""
        self.after_steps(step, [loss], [accuracy])

    def after_steps(self, step: int, losses: Sequence[float], accuracies: Sequence[float]) -> None:
        """Logs, tests and saves what is due after the steps of a session call.

        Args:
          step: the last of them.
          losses: of each step's batch before its update, in nats.
          accuracies: of each step's batch before its update, 0 to 1.

        Raises:
          UserError: if a loss is not finite.
        """
        config = self._config
        check_finite(losses, step, config, f"{self._run.folder} keeps what was logged")
        self._loss = float(losses[-1])
        self.should_stop = self._stop.received is not None
        last = step == config.steps or self.should_stop
        if step % config.log_every == 0 or last:
            self._log(step, self._loss, float(accuracies[-1]))
        # Testing moves the averages of the original's fully connected layers. A checkpoint is
        # from before its step's test, so that who resumes there does the test again.
        is_saved = step % config.checkpoint_every == 0 or last
        if is_saved:
            self._save(step)
        if step % config.test_every == 0 and not self.should_stop and not self._test(step):
            self.should_stop = True
            if not is_saved:
                self._save(step)
        self._advance(len(losses))

    def end(self, step: int) -> Outcome:
        """Tests every image in both modes, unless a signal ended the run."""
        wall_s = time.perf_counter() - self._began
        self._bar.close()
        stopped_by = self._stop.received if self.should_stop else None
        accuracies = None
        if stopped_by is None:
            self._out.say("Testing every image in both modes ...")
            try:
                accuracies = self._final_test(step)
            except Stopped:
                stopped_by = self.received
        return Outcome(step, self._loss, wall_s, stopped_by, accuracies)

    def _log(self, step: int, loss: float, accuracy: float) -> None:
        now = time.perf_counter()
        rate = (step - self._logged) * self._config.batch_size / (now - self._logged_at)
        self._logged, self._logged_at = step, now
        stand_in = console.accuracy_suffix(self._data.name)
        self._out.say(f"[Train] Step: {step}, loss: {loss:.5f}, acc:{accuracy:.5f}{stand_in}")
        record = {"loss": loss, "accuracy": accuracy, "images_per_s": rate}
        self._run.log(step=step, **record)
        self._events.trained(step, record)

    def _save(self, step: int) -> None:
        files.flush(self._run.folder / METRICS)  # no checkpoint is newer than what was logged
        prefix = str(self._run.checkpoints / f"model.ckpt-{step}")
        self._kept = save(self._session, self._saver, prefix, self._kept, self._config.keep)

    def _test(self, step: int) -> bool:
        """Tests the first batches and logs it; if a signal comes, False, as if not begun."""
        images = periodic_test.first_batches(self._data, self._config)
        size = self._config.batch_size
        try:
            found = periodic_test.test(self._session, self._net, images, size, self._stop)
        except Stopped:
            return False
        stand_in = console.accuracy_suffix(self._data.name)
        self._out.say(f"[Test] Step: {step}, acc:{found.accuracy:.5f}{stand_in}")
        self._run.log(
            step=step,
            test_accuracy=found.accuracy,
            batch_statistics_accuracy=found.batch_statistics_accuracy,
        )
        self._events.tested(step, found)
        return True

    def _final_test(self, step: int) -> dict[str, float]:
        """Every test image once in each mode; the original's own figure is among them."""
        on, size = (self._session, self._net, self._data.test), self._config.batch_size
        total = 2 * len(self._data.test.labels)
        with progress.bar(total, "images", quiet=self._out.quiet) as advance:

            def after_batch(images: int) -> None:
                advance(images)
                self._signals.check()

            inference, batch = (
                evaluate.answers(*on, size, is_training=is_training, after_batch=after_batch)
                for is_training in (False, True)
            )
        self._draw(step, inference.logits)
        first = len(periodic_test.first_batches(self._data, self._config).labels)
        return {
            "test_accuracy": float(inference.hits[:first].mean()),
            "test_accuracy_full": float(inference.hits.mean()),
            "batch_statistics_accuracy_full": float(batch.hits.mean()),
            "gap_points": float(100 * (batch.hits.mean() - inference.hits.mean())),
        }

    def _draw(self, step: int, logits: npt.NDArray[np.float32]) -> None:
        """Draws for TensorBoard what the final test got wrong, unless a logit is not finite."""
        labels, names = self._data.test.labels, self._data.class_names
        if np.isfinite(logits).all():
            counts = confusion.matrix(labels, logits.argmax(axis=1), len(names))
            wrong = confusion.worst(labels, logits, confusion.ROWS * confusion.COLUMNS)
            pictures = {
                "confusion_matrix": event_images.confusion_matrix(counts, names),
                "worst": event_images.worst(wrong, self._data),
            }
            self._events.finished(step, pictures)
