"""Locks a run folder, so that one process at a time writes to it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
from pathlib import Path

from filelock import FileLock, Timeout

from alexnet_tf1 import files
from alexnet_tf1.errors import UserError
from alexnet_tf1.runs.folder import CHECKPOINTS, CONFIG, DATA, LOCK, METRICS, RESULT

_MOST_BYTES = 4096  # of a lock file; ours has some 50


class RunLock:
    """Keeps every other process, and this one too, from writing to a run folder.

    The file `lock` in the folder is there while the lock is held, and names the holder: a JSON
    object with `pid` and `host`. The lock itself is the kernel's, on the open folder and the open
    file, and ends with the process, however it ends: the lock of a killed process is taken over
    without a word. The folder is locked as well because anybody can remove the file.

    A run folder may be a stranger's. What is written in place there (`lock`, metrics.jsonl,
    checkpoints/) must not be another name for a place elsewhere: a link is refused.

    On network file systems the lock is as good as theirs: NFS (Linux, since 2.6.12) and SMB pass
    it on to the server, so that it holds between machines; after a machine's crash the server may
    keep it until the machine is back. NFS locks files and no folders. Some (Lustre without
    `-o flock`) keep it to one machine, or have none: those without are refused, not used
    unprotected.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Names the run's folder, which must be there; the lock is taken on entering."""
        self._folder = Path(folder)
        self._path = self._folder / LOCK
        self._lock = FileLock(
            self._path, blocking=False, fallback_to_soft=False, on_acquired=_write_holder
        )
        self._held = contextlib.ExitStack()  # the folder's lock

    def __enter__(self) -> RunLock:
        """Takes the lock.

        Raises:
          UserError: if another process has it, or this one; if the folder cannot be written, or
            holds a link where a run has a file of its own.
        """
        if self._lock.is_locked:  # filelock would count it twice
            raise UserError(self._refusal())
        self._refuse_links()
        try:
            with contextlib.ExitStack() as held:
                folder = os.path.realpath(self._folder)
                if held.enter_context(files.locked(folder, wait=False)) is False:
                    raise UserError(self._refusal())
                self._lock.acquire()
                self._held = held.pop_all()
        except Timeout:
            raise UserError(self._refusal()) from None
        except OSError as error:
            raise UserError(
                f"{self._path} cannot be locked ({error.strerror}); "
                "name a --run-dir on a disk that can be written and locked"
            ) from None
        return self

    def __exit__(self, *exc: object) -> None:
        # Removed before it is unlocked: afterwards it could be the next holder's.
        with contextlib.suppress(OSError):
            self._path.unlink()
        self._lock.release()
        self._held.close()

    def _refuse_links(self) -> None:
        for name in (LOCK, CONFIG, METRICS, RESULT, DATA, CHECKPOINTS):
            path = self._folder / name
            try:
                found = path.lstat()
            except FileNotFoundError:
                continue
            except OSError as error:
                raise UserError(f"{path} cannot be read ({error.strerror}); name a run") from None
            is_own = stat.S_ISDIR if name == CHECKPOINTS else stat.S_ISREG
            # The others are replaced, so that a hard link to them keeps what it has.
            is_shared = name in (LOCK, METRICS) and found.st_nlink > 1
            if not is_own(found.st_mode) or is_shared:
                raise UserError(
                    f"{path} cannot be locked or written: it is a link, or not what a run has "
                    "there; copy it to its place, or remove it"
                )

    def _refusal(self) -> str:
        pid, host = self._holder()
        if pid == os.getpid() and host == socket.gethostname():
            return f"{self._folder} is already open in this process ({pid}); close it there first"
        where = "" if host in (None, socket.gethostname()) else f" on {host}"
        who = "another process" if pid is None else f"process {pid}{where}"
        return f"{self._folder} is being written by {who}; wait for it, stop it or name another run"

    def _holder(self) -> tuple[int | None, str | None]:
        """Reads the holder's pid and host from the lock file; None for what it does not say."""
        with contextlib.suppress(OSError, ValueError, RecursionError):
            with self._path.open("rb") as file:
                holder = json.loads(file.read(_MOST_BYTES))
            if isinstance(holder, dict) and type(holder.get("pid")) is int:
                host = holder.get("host")
                return holder["pid"], host if isinstance(host, str) else None
        return None, None


def _write_holder(descriptor: int) -> None:
    text = json.dumps({"pid": os.getpid(), "host": socket.gethostname()}) + "\n"
    os.ftruncate(descriptor, 0)
    os.write(descriptor, text.encode())
