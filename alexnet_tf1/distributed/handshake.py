"""The workers agree on a run before its first step: who is there, the settings, the images."""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from alexnet_tf1.config import TrainConfig, option
from alexnet_tf1.data.dataset import Dataset
from alexnet_tf1.distributed.cluster import Cluster
from alexnet_tf1.distributed.collectives import from_chief, meeting
from alexnet_tf1.distributed.heartbeat import Peers
from alexnet_tf1.distributed.replicas import Team
from alexnet_tf1.errors import UserError
from alexnet_tf1.runs.resume import fingerprint

_RUN_KEY, _TEXT_KEY = 1, 1  # of the session call, and of the collective in it
_MOST_TEXT = 16_384
# What each worker may have its own of.
_OWN = ("run_dir", "data_dir", "worker_timeout", "test_batches")


@contextlib.contextmanager
def joined(
    team: Team, config: TrainConfig, data: Dataset, say: Callable[[str], None]
) -> Iterator[Peers | None]:
    """Waits for the other workers and tells them the run, while a chief trains with them.

    Yields:
      The others, all there and told; None where the team has no cluster.

    Raises:
      UserError: if one does not come, or is lost.
    """
    if team.cluster is None:
        yield None
        return
    with Peers(team.cluster, team.devices, config.worker_timeout) as peers:
        say(f"{team.cluster.name(0)} writes the run and waits for the others")
        peers.wait()
        settings = {**dataclasses.asdict(config), "run_dir": None}
        tell(peers, {"config": settings, "data": fingerprint(data)})
        try:
            yield peers
        except (tf.errors.OpError, RuntimeError) as error:
            if not peers.has_lost:
                raise
            raise peers.explain(error) from None


def tell(peers: Peers, message: Mapping[str, Any] | None) -> dict[str, Any]:
    """Passes the chief's JSON-ready message to every worker, which gets it back; theirs is None.

    Raises:
      UserError: if a worker is lost, or they do not agree in time.
    """
    text = json.dumps(message).encode()
    if len(text) > _MOST_TEXT:
        raise UserError(f"the settings have {len(text)} bytes; a cluster's have {_MOST_TEXT}")
    padded = np.frombuffer(text.ljust(_MOST_TEXT), np.uint8).astype(np.int32)
    with tf.Graph().as_default(), tf.Session(peers.target, config=peers.configuration()) as session:
        given = tf.placeholder(tf.int32, [_MOST_TEXT])
        workers, is_chief = len(peers.cluster.addresses), peers.cluster.is_chief
        (told,) = from_chief([given], workers, is_chief=is_chief, first_key=_TEXT_KEY)
        options = meeting(_RUN_KEY)
        options.timeout_in_ms = int(1000 * peers.patience_s)
        try:
            found = session.run(told, {given: padded}, options)
        except tf.errors.DeadlineExceededError:
            raise UserError(
                f"the workers did not agree within {peers.patience_s:.0f} s, though a server "
                "answers at every address of TF_CONFIG; does another cluster use one of them?"
            ) from None
        except tf.errors.OpError as error:
            raise peers.explain(error) from None
    heard: dict[str, Any] = json.loads(found.astype(np.uint8).tobytes())
    return heard


def check_wanted(cluster: Cluster, config: TrainConfig, wanted: Mapping[str, Any]) -> None:
    """Refuses settings of this worker, by field name, that differ from the chief's `config`.

    Raises:
      UserError: if one does.
    """
    for name, value in wanted.items():
        chiefs = getattr(config, name)
        if name in _OWN or value == chiefs or (name == "dataset" and value == "auto"):
            continue
        raise UserError(
            f"{cluster.name(cluster.task)} was started with {option(name)} {value}, "
            f"{cluster.name(0)} with {chiefs}; start every worker with the same options"
        )
