"""A worker's server, and whether the other workers are there."""

from __future__ import annotations

import concurrent.futures
import os
import sys
import threading
import time
from typing import Any

import tensorflow.compat.v1 as tf

from alexnet_tf1.distributed import packet_filter
from alexnet_tf1.distributed.cluster import Cluster
from alexnet_tf1.errors import UserError
from alexnet_tf1.reporting import text as report
from alexnet_tf1.session import configuration

CHECK_EVERY_S = 5.0  # between two looks at the others
# How long one that was there may be silent, if --worker-timeout is not shorter: its server has
# threads of its own and answers within milliseconds, whatever it computes.
SILENT_S = 30.0
# A worker that lost another looks who is gone for 2 s and stays for 3 in all, so that the others,
# who look at the same time, find it there and name the one that is gone and no other.
LOOK_S, STAY_S = 2.0, 3.0
_STUCK_S = 10.0  # that a step may take to end after its session was closed


class Peers:
    """This worker's server and its view of the others.

    While it is entered, a thread asks each of the others every few seconds whether it is there;
    when one has not answered for too long, the session that was handed to `watch` is closed, so
    that a step that waits for it ends.

    Attributes:
      cluster: who trains.
      target: of this worker's sessions.
      patience_s: how long a worker is waited for.
    """

    def __init__(self, cluster: Cluster, devices: int, patience_s: float) -> None:
        """Starts the server; waits `patience_s` seconds for a worker to come, or to answer.

        Raises:
          UserError: if the server cannot listen on this worker's address.
        """
        self.cluster = cluster
        self._others = [t for t in range(len(cluster.addresses)) if t != cluster.task]
        self.patience_s = patience_s
        self._silent_s = min(patience_s, SILENT_S)
        self._devices = devices
        self._lost: list[int] = []
        self._strangers: set[int] = set()  # where a server answered that is none of this cluster
        self._session: Any = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        try:
            self._server = tf.train.Server(
                tf.train.ClusterSpec({"worker": list(cluster.addresses)}),
                job_name="worker",
                task_index=cluster.task,
                config=self.configuration(),
            )
        except tf.errors.OpError as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"TF_CONFIG: {cluster.name(cluster.task)} cannot listen on its address ({reason}); "
                "is the port in use, and the host this machine?"
            ) from None
        self.target = self._server.target
        packet_filter.restrict(cluster.addresses[cluster.task])

    def configuration(self, precision: str = "float32") -> Any:
        """The ConfigProto of this worker's server and sessions; precision as in TrainConfig."""
        config = configuration(self._devices)
        config.experimental.collective_group_leader = "/job:worker/replica:0/task:0"
        # Only its own devices: a session does not wait for those of others, nor place ops there.
        config.device_filters.append(f"/job:worker/task:{self.cluster.task}")
        if precision == "bfloat16":
            # Behind a server TensorFlow fuses convolution, bias and ReLU before it knows of oneDNN,
            # into an op that has no bfloat16, and then refuses the graph.
            options = config.graph_options.rewrite_options
            options.remapping = options.OFF
        return config

    @property
    def has_lost(self) -> bool:
        """True if one of the others has not answered for too long."""
        return bool(self._lost)

    def wait(self) -> None:
        """Returns when every worker is there.

        Raises:
          UserError: if one does not come in time.
        """
        deadline = time.monotonic() + self.patience_s
        missing = self._others
        while missing:
            left = deadline - time.monotonic()
            if left <= 0:
                others = sorted(self._strangers.intersection(missing))
                raise UserError(
                    f"{self._names(others)} did not come: another server answers there; give each "
                    "worker an address of its own in TF_CONFIG"
                    if others
                    else f"{self._names(missing)} did not come within {self.patience_s:.0f} s; "
                    "start every worker that TF_CONFIG names, or wait longer with --worker-timeout"
                )
            # Not longer, so that Ctrl-C is heard.
            missing = self._silent(missing, min(left, 1.0))

    def watch(self, session: Any) -> None:
        """Begins to look after the others; `session` is closed when one is lost."""
        self._session = session
        self._thread.start()

    def stop_watching(self) -> None:
        """Ends it: from now on others may leave."""
        self._done.set()

    def __enter__(self) -> Peers:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop_watching()

    def explain(self, error: Exception) -> UserError:
        """Says in a line why a step with the others failed, after a look at who is gone."""
        leave_at = time.monotonic() + STAY_S
        gone = self._lost or self._silent(self._others, LOOK_S)
        time.sleep(max(0.0, leave_at - time.monotonic()))
        self.stop_watching()
        return UserError(
            self._complaint(gone)
            if gone
            else f"a step with the other workers failed ({_reason(error)}), though all of them "
            "answer; start every worker again with --resume"
        )

    def _complaint(self, gone: list[int]) -> str:
        verb = "is gone or does" if len(gone) == 1 else "are gone or do"
        return (
            f"{self._names(gone)} {verb} not answer, and no step can be taken without; the last "
            "checkpoint is whole: start every worker again with --resume"
        )

    def _names(self, tasks: list[int]) -> str:
        return " and ".join(self.cluster.name(task) for task in tasks)

    def _silent(self, tasks: list[int], seconds: float) -> list[int]:
        """Those who do not answer within so many seconds, asked all at once."""
        with concurrent.futures.ThreadPoolExecutor(len(tasks)) as pool:
            answers = list(pool.map(lambda task: self._answers(task, seconds), tasks))
        return [task for task, there in zip(tasks, answers, strict=True) if not there]

    def _answers(self, task: int, seconds: float) -> bool:
        config = tf.ConfigProto(operation_timeout_in_ms=max(1, int(1000 * seconds)))
        config.device_filters.append(f"/job:worker/task:{task}")
        target = f"grpc://{self.cluster.addresses[task]}"
        try:
            with tf.Session(target, graph=tf.Graph(), config=config) as session:
                devices = session.list_devices()
            own = f"/job:worker/replica:0/task:{task}/"
            found = bool(devices) and devices[0].name.startswith(own)  # the server's own come first
            if not found:
                self._strangers.add(task)
            return found
        except tf.errors.OpError:
            return False

    def _watch(self) -> None:
        heard = dict.fromkeys(self._others, time.monotonic())
        every = min(CHECK_EVERY_S, self._silent_s / 2)
        while not self._done.wait(every):
            silent = self._silent(self._others, every)
            now = time.monotonic()
            heard.update(dict.fromkeys(set(self._others) - set(silent), now))
            self._lost = [task for task, at in heard.items() if now - at > self._silent_s]
            if self._lost and not self._done.is_set():
                break
        else:
            return
        threading.Thread(target=self._session.close, daemon=True).start()
        if not self._done.wait(_STUCK_S + STAY_S):
            # The step does not end, and Python cannot interrupt it.
            line = report.one_line(f"error: {self._complaint(self._lost)}")
            print(line, file=sys.stderr, flush=True)
            sys.stdout.flush()
            os._exit(2)


def _reason(error: Exception) -> str:
    """The line of TensorFlow's many that says what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = ("Graph execution error:", "Detected at node", "File ", "Node: ", "From /job:")
    return next((line for line in lines if not line.startswith(telling)), type(error).__name__)
