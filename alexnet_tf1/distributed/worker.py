"""What a worker does that is not the chief: it trains, and writes nothing."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow.compat.v1 as tf

from alexnet_tf1 import evaluate
from alexnet_tf1.config import TrainConfig
from alexnet_tf1.data.dataset import Dataset
from alexnet_tf1.data.load import load_dataset
from alexnet_tf1.distributed import train as together
from alexnet_tf1.distributed.cluster import Cluster
from alexnet_tf1.distributed.heartbeat import Peers
from alexnet_tf1.distributed.replicas import Team
from alexnet_tf1.errors import UserError
from alexnet_tf1.recipes.augment import batches_for_run
from alexnet_tf1.reporting.console import Console
from alexnet_tf1.runs import resume
from alexnet_tf1.session import open_session
from alexnet_tf1.system.signals import StopRequest
from alexnet_tf1.train import check_finite, until_next_event


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
    wanted = {**wanted, "devices": devices}
    with Peers(cluster, devices, patience_s) as peers:
        out = Console(quiet=quiet)
        out.say(f"{cluster.name(cluster.task)} waits for the others")
        peers.wait()
        told = together.tell(cluster, peers, None)
        config = TrainConfig.from_json(told["config"], cluster.name(0))
        together.check_wanted(cluster, config, wanted)
        Team(cluster, devices).check(config)
        data = load_dataset(
            config.dataset,
            Path(wanted["data_dir"]) if wanted.get("data_dir") else None,
            announce=out.announce,
            progress=sys.stderr.isatty() and not quiet,
        )
        if resume.fingerprint(data) != told["data"]:
            raise UserError(
                f"{cluster.name(cluster.task)} has other images than {cluster.name(0)}; "
                "name the folder of the same with --data-dir"
            )
        return _train(config, Team(cluster, config.devices), data, peers, out)


def _train(
    config: TrainConfig, team: Team, data: Dataset, peers: Peers, out: Console
) -> int | None:
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(config.seed)
        net = evaluate.network(config, with_train_op=False)
        parts = together.build(net, config, team)
        initialise = tf.global_variables_initializer()
        graph.finalize()
        with (
            open_session(
                fast=config.fast,
                target=peers.target,
                config=peers.configuration(config.precision),
            ) as session,
            StopRequest() as asked,
        ):
            session.run(initialise)
            peers.watch(session)
            together.share_start(session, parts, peers)
            step = int(session.run(parts.net.global_step))
            walk = batches_for_run(config, data.train, team.part(config.batch_size))
            walk.skip(step, config.batch_size)
            steps = together.ParallelSteps(session, parts, walk, config, asked, peers)
            out.say(f"trains with {team.workers} workers from step {step:,}")
            while step < config.steps and steps.stop.received is None:
                losses, _ = steps.take(min(steps.most, until_next_event(config, step)))
                check_finite(losses, step, config, "the chief keeps what was logged")
                step += len(losses)
            steps.leave()
            out.say(f"done after step {step:,}")
            return steps.stop.received
