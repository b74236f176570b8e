"""Reads the workers of a cluster from TF_CONFIG, before TensorFlow is loaded."""

import dataclasses
import json
import os
import re
from collections.abc import Mapping
from typing import Any

from alexnet_tf1.errors import UserError

VARIABLE = "TF_CONFIG"
_LIKE = (
    '{"cluster": {"worker": ["HOST:PORT", "HOST:PORT"]}, "task": {"type": "worker", "index": 0}}'
)
_JOBS = ("chief", "worker")
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The workers of a training run and which of them this process is.

    Attributes:
      addresses: HOST:PORT of each; the first is the chief, which alone writes the run folder.
      task: this process's place among them.
      has_chief: whether TF_CONFIG names the first a job of its own, "chief".
    """

    addresses: tuple[str, ...]
    task: int
    has_chief: bool = False

    @property
    def is_chief(self) -> bool:
        """True in the process that writes the run folder."""
        return self.task == 0

    def name(self, task: int) -> str:
        """Names a worker as TF_CONFIG and messages do: "worker 1 (10.0.0.2:2222)"."""
        job = "chief" if self.has_chief and task == 0 else f"worker {task - self.has_chief}"
        return f"{job} ({self.addresses[task]})"


def from_environment(environment: Mapping[str, str] = os.environ) -> Cluster | None:
    """Reads TF_CONFIG; None where it is not set, or names one worker, which trains alone.

    Raises:
      UserError: if it is not what TensorFlow's users write there.
    """
    text = environment.get(VARIABLE)
    if text is None:
        return None
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{VARIABLE} is not JSON ({error}); write {_LIKE}, or unset it") from None
    if not isinstance(config, dict):
        raise UserError(f"{VARIABLE} is not a JSON object; write {_LIKE}")
    cluster, task = config.get("cluster"), config.get("task")
    if not cluster and not task:
        return None
    addresses, has_chief = _addresses(cluster)
    found = Cluster(addresses, _task(task, len(addresses) - has_chief, has_chief), has_chief)
    return found if len(addresses) > 1 else None


def _addresses(cluster: Any) -> tuple[tuple[str, ...], bool]:
    """The addresses, the chief's first, and whether it has a job of its own."""
    if not isinstance(cluster, dict):
        raise UserError(f"{VARIABLE} has no cluster; write {_LIKE}")
    for job in cluster:
        if job not in _JOBS:
            raise UserError(
                f"{VARIABLE}: cluster.{job} is no part of synchronous training, which has no "
                "parameter servers and no evaluator; name workers only"
            )
    found: list[str] = []
    for job in _JOBS:
        addresses = cluster.get(job, [])
        if not isinstance(addresses, list):
            raise UserError(f"{VARIABLE}: cluster.{job} is not a list of addresses; write {_LIKE}")
        found += [_address(given, f"cluster.{job}[{n}]") for n, given in enumerate(addresses)]
    chiefs = len(cluster.get("chief", []))
    if chiefs > 1:
        raise UserError(f"{VARIABLE}: cluster.chief names {chiefs} addresses; there is one chief")
    if not found:
        raise UserError(f"{VARIABLE}: cluster names no worker; write {_LIKE}")
    seen: dict[str, str] = {}
    for address in found:
        if other := seen.get(_as_one(address)):
            both = address if other == address else f"{other}, as {address},"
            raise UserError(
                f"{VARIABLE}: the address {both} is there twice; give each worker its own port"
            )
        seen[_as_one(address)] = address
    return tuple(found), chiefs == 1


def _address(given: Any, place: str) -> str:
    match = _ADDRESS.fullmatch(given) if isinstance(given, str) else None
    if not match or not 0 < int(match[2]) < 65_536:
        raise UserError(
            f"{VARIABLE}: {place} {given!r} is no address; write HOST:PORT, e.g. 10.0.0.1:2222"
        )
    return match[0].lower()


def _as_one(address: str) -> str:
    """The same text for all spellings of an address of this machine, which has each port once."""
    host, _, port = address.rpartition(":")
    is_local = host in ("localhost", "[::1]") or re.fullmatch(r"127(\.[0-9]+){3}", host)
    return f"{'localhost' if is_local else host}:{int(port)}"


def _task(given: Any, workers: int, has_chief: bool) -> int:
    if not isinstance(given, dict):
        raise UserError(f"{VARIABLE} has no task; write {_LIKE}")
    kind, index = given.get("type"), given.get("index")
    counts = {"worker": workers, **({"chief": 1} if has_chief else {})}
    if not isinstance(kind, str) or kind not in counts:
        raise UserError(
            f"{VARIABLE}: task.type {kind!r} is not in its cluster; use {' or '.join(counts)}"
        )
    if type(index) is not int or not 0 <= index < counts[kind]:
        raise UserError(
            f"{VARIABLE}: task.index {index!r} is not in cluster.{kind}, which has "
            f"{counts[kind]}; count from 0 to {counts[kind] - 1}"
        )
    return index + (has_chief and kind == "worker")
