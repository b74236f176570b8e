"""One writer a run folder."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import sys
import time
from pathlib import Path
from types import TracebackType

from alexnet_tf1.errors import UserError

LOCK = "lock"
_MOST_BYTES = 4096  # of a lock file; ours has some 50
_MOST_ATTEMPTS = 1000
_PATIENCE_S = 0.2  # for a holder that has the lock and has not yet written who it is

# The lock is the kernel's, on the open file; what the file says only names the holder. The kernel
# drops the lock when the process ends, however it ends. So there is no stale lock to judge by a
# pid that may be another process's by now, and no moment between judging and taking it over.
# flock and not lockf: a lockf belongs to the process, which could then take it twice, and would
# lose it by closing any descriptor of the file. msvcrt's is mandatory, so it takes a byte far
# behind the text, which others want to read.
if sys.platform == "win32":
    import msvcrt

    _FAR = 1 << 30

    def _try_lock(descriptor: int) -> bool:
        os.lseek(descriptor, _FAR, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

    def _release(descriptor: int, path: Path) -> None:
        os.lseek(descriptor, _FAR, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
        os.close(descriptor)
        with contextlib.suppress(OSError):  # an open file cannot be removed: the next one has it
            path.unlink()

else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _release(descriptor: int, path: Path) -> None:
        # Removed before it is unlocked: afterwards it could be the next holder's.
        with contextlib.suppress(OSError):
            if _same_file(descriptor, path):
                path.unlink()
        os.close(descriptor)


class RunLock:
    """Keeps every other process, and this one too, from writing to a run folder.

    The file `lock` in the folder is there while the lock is held, and says by whom: a JSON object
    with `pid` and `host`. What a killed process left of it is taken over without a word. A child
    made by os.fork shares the lock and keeps it alive; a subprocess does not.

    On network file systems the lock is as good as theirs: NFS (Linux, since 2.6.12) and SMB pass
    it on to the server, so that it holds between machines; after a machine's crash the server may
    keep it until the machine is back. Some (Lustre without `-o flock`) keep it to one machine, or
    have none: those without are refused, not used unprotected.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Names the folder; the lock is taken on entering.

        Args:
          folder: of the run; it must be there.
        """
        self._folder = Path(folder)
        self._path = self._folder / LOCK
        self._descriptor: int | None = None

    def __enter__(self) -> RunLock:
        """Takes the lock.

        Raises:
          UserError: if another process has it, or this one; or the folder cannot be written.
        """
        try:
            descriptor = self._taken()
        except OSError as error:
            raise UserError(
                f"{self._path} cannot be locked ({error.strerror}); "
                "name a --run-dir on a disk that can be written and locked"
            ) from None
        if descriptor is None:
            raise UserError(self._refusal())
        self._descriptor = descriptor
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._descriptor is not None:
            _release(self._descriptor, self._path)
            self._descriptor = None

    def _taken(self) -> int | None:
        """Opens and locks the file; None if somebody holds it."""
        for _ in range(_MOST_ATTEMPTS):
            # Not through a link: the file is emptied, and a stranger's folder may link anywhere.
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
            descriptor = os.open(self._path, flags, 0o644)
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise OSError(0, "it is not a file")
                if not _try_lock(descriptor):
                    os.close(descriptor)
                    return None
                # The holder before may have removed the file after it was opened here.
                if _same_file(descriptor, self._path):
                    _write_holder(descriptor)
                    return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)
        raise OSError(0, "it is replaced again and again")

    def _refusal(self) -> str:
        pid, host = self._holder()
        if pid == os.getpid() and host == socket.gethostname():
            return f"{self._folder} is already open in this process ({pid}); close it there first"
        where = "" if host in (None, socket.gethostname()) else f" on {host}"
        who = "another process" if pid is None else f"process {pid}{where}"
        return f"{self._folder} is being written by {who}; wait for it, stop it or name another run"

    def _holder(self) -> tuple[int | None, str | None]:
        """Whom the lock file names: pid and host; None for what it does not say."""
        until = time.monotonic() + _PATIENCE_S
        while True:
            with contextlib.suppress(OSError, ValueError, RecursionError):
                with self._path.open("rb") as file:
                    holder = json.loads(file.read(_MOST_BYTES))
                if isinstance(holder, dict) and type(holder.get("pid")) is int:
                    host = holder.get("host")
                    return holder["pid"], host if isinstance(host, str) else None
            if time.monotonic() > until:
                return None, None
            time.sleep(0.01)


def _write_holder(descriptor: int) -> None:
    text = json.dumps({"pid": os.getpid(), "host": socket.gethostname()}) + "\n"
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, text.encode())


def _same_file(descriptor: int, path: Path) -> bool:
    """Whether the path still leads to the open file."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), there)
