"""A worker that is not the chief: it trains, and writes nothing."""

import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow.compat.v1 as tf

from alexnet_tf1.alexnet import AlexNet
from alexnet_tf1.config import TrainConfig
from alexnet_tf1.data.dataset import Dataset
from alexnet_tf1.data.load import load_dataset
from alexnet_tf1.distributed import handshake
from alexnet_tf1.distributed.cluster import Cluster
from alexnet_tf1.distributed.heartbeat import Peers
from alexnet_tf1.distributed.replicas import Team
from alexnet_tf1.distributed.train import train
from alexnet_tf1.errors import UserError
from alexnet_tf1.fast.kernels import ops_for
from alexnet_tf1.recipes.augment import augmentation_for
from alexnet_tf1.recipes.optimizer import optimizer_for
from alexnet_tf1.reporting.console import Console
from alexnet_tf1.runs import resume
from alexnet_tf1.runs.schedule import check_finite, steps_until_due
from alexnet_tf1.system.signals import StopRequest


def follow(cluster: Cluster, wanted: Mapping[str, Any], *, quiet: bool = False) -> int | None:
    """Trains with the chief, from where it starts to where it ends.

    Args:
      cluster: of which this process is not the chief.
      wanted: settings that this worker was started with, by field name; the chief's fill in.
      quiet: prints warnings only.

    Returns:
      The signal that stopped the run, or None.

    Raises:
      UserError: if the data cannot be used, the settings differ from the chief's, a worker is
        lost, or the loss is not finite.
    """
    devices = wanted.get("devices", TrainConfig.devices)
    patience_s = wanted.get("worker_timeout", TrainConfig.worker_timeout)
    with Peers(cluster, devices, patience_s) as peers:
        out = Console(quiet=quiet)
        out.say(f"{cluster.name(cluster.task)} waits for the others")
        peers.wait()
        told = handshake.tell(peers, None)
        config = TrainConfig.from_json(told["config"], cluster.name(0))
        handshake.check_wanted(cluster, config, {**wanted, "devices": devices})
        team = Team(cluster, devices)
        team.check(config)
        data = load_dataset(
            config.dataset,
            data_folder(wanted.get("data_dir"), config),
            announce=out.announce,
            progress=sys.stderr.isatty() and not quiet,
        )
        if resume.fingerprint(data) != told["data"]:
            raise UserError(
                f"{cluster.name(cluster.task)} has other images than {cluster.name(0)}; "
                "name the folder of the same with --data-dir"
            )
        with _Hooks(config, data) as hooks:
            out.say(f"trains with {team.workers} workers")
            step = train(config, data, hooks, team=team, peers=peers)
            out.say(f"done after step {step:,}")
            return hooks.agreed


def data_folder(own: str | None, config: TrainConfig) -> Path | None:
    """Names the folder of this worker's images: where it names none, the chief's if it has that."""
    if own is None and config.data_dir and not os.environ.get("CIFAR10_DIR"):
        own = config.data_dir if os.path.isdir(config.data_dir) else None
    return Path(own) if own else None


class _Hooks(contextlib.ExitStack):
    """Surrounds the loop of a worker that is not the chief; a context manager."""

    agreed: int | None = None  # the signal that all stop for

    def __init__(self, config: TrainConfig, data: Dataset) -> None:
        super().__init__()
        self.optimizer = optimizer_for(config)
        self.ops = ops_for(config)
        self.augmentation = augmentation_for(config, len(data.train.labels))
        self._config = config
        self._signals = StopRequest()

    @property
    def received(self) -> int | None:
        return self._signals.received

    @property
    def should_stop(self) -> bool:
        return self.agreed is not None

    def agree(self, signal: int) -> None:
        self.agreed = signal

    def build(self, net: AlexNet) -> None:
        self._initialise = tf.global_variables_initializer()

    def begin(self, session: Any) -> int:
        """Initialises; the chief's variables come later."""
        self.enter_context(self._signals)
        session.run(self._initialise)
        return 0

    def steps_until_due(self, step: int) -> int:
        return steps_until_due(self._config, step)

    def after_step(self, step: int, loss: float, accuracy: float) -> None:
        self.after_steps(step, [loss], [accuracy])

    def after_steps(self, step: int, losses: Sequence[float], accuracies: Sequence[float]) -> None:
        check_finite(losses, step, self._config, "the chief keeps what was logged")

    def end(self, step: int) -> int:
        return step
