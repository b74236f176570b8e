"""Reads files within bounds, and writes files and folders whole or not at all.

Everything that opens a file by itself goes through here; TensorFlow opens its own.
"""

import contextlib
import errno
import json
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

from alexnet_tf1.errors import UserError

if sys.platform != "win32":
    import fcntl

MAX_JSON_BYTES: Final = 1 << 20  # what this program writes has a few thousand
RESTORE: Final = "restore it from a copy"
UNFINISHED: Final = ".unfinished"  # ends the names of temporary files and folders


def read_bytes(path: str | os.PathLike[str], most: int, remedy: str) -> bytes:
    """Reads all of a regular file of at most `most` bytes; `remedy` ends the message of an error.

    Raises:
      UserError: if it is missing, no regular file, too large or cannot be read.
    """
    try:
        with open_regular(path) as file:
            data = file.read(min(os.fstat(file.fileno()).st_size, most) + 1)
    except IsADirectoryError:
        raise UserError(f"{path} is a folder, not a file; {remedy}") from None
    except FileNotFoundError:
        raise UserError(f"{path} is missing; {remedy}") from None
    except (OSError, ValueError) as error:  # ValueError: no name that the system can be asked for
        raise UserError(f"{path} cannot be read ({reason(error)}); {remedy}") from None
    if len(data) > most:
        raise UserError(f"{path} has more than the {most:,} bytes that are read; {remedy}")
    return data


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Opens a regular file to be read: a pipe would wait for its writer, a device never end.

    Raises:
      OSError: if it is none, or cannot be opened.
    """
    mode = os.stat(path).st_mode  # asked before it is opened
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "Is a folder", str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "Not a regular file", str(path))
    return open(path, "rb")


def reason(error: BaseException) -> str:
    """Says what the system says of an error, without its number and file name."""
    return getattr(error, "strerror", None) or str(error)


def read_text(path: Path, most: int) -> str:
    """Reads a UTF-8 file; bounds and errors as for `read_bytes`."""
    try:
        return read_bytes(path, most, RESTORE).decode("utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{path} cannot be read (not UTF-8 text); {RESTORE}") from None


def read_json(path: Path) -> Any:
    """Reads a JSON file; None where there is none.

    Raises:
      UserError: if it cannot be read, is larger than MAX_JSON_BYTES or is not JSON.
    """
    if not os.path.isfile(path):  # Path.is_file raises where a name is too long
        return None
    return parse_json(read_text(path, MAX_JSON_BYTES), str(path))


def parse_json(text: str | bytes, source: str) -> Any:
    """Parses JSON; `source` names the text where it is not JSON (UserError)."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{source} is not JSON ({error}); {RESTORE}") from None


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all: to a temporary file that is flushed, then renamed.

    A link of that name is replaced, not followed.

    Raises:
      UserError: if the file cannot be written.
    """
    try:
        with _aside(path, is_folder=False) as aside:
            aside.write_bytes(content)
            aside.chmod(0o644)  # mkstemp makes it private
            flush(aside)
            os.replace(aside, path)
            flush(path.parent)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}); free the place") from None


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file as `write_bytes` does; refuses NaN and infinities, as JSON has none."""
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    write_bytes(path, text.encode("utf-8"))


class NotWritableError(UserError):
    """A folder cannot be written to."""


def check_writable(folder: Path, *names: str, remedy: str = "make it writable") -> None:
    """Finds out before minutes of measuring whether files of these names can be written.

    Raises:
      UserError: if not; NotWritableError if no file can be written there.
    """
    try:
        for name in names:
            if os.path.isdir(folder / name):
                raise UserError(
                    f"{folder / name} is a folder; a file is to be written there: move it away"
                )
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise NotWritableError(
            f"{folder} cannot be written to ({error.strerror}); {remedy}"
        ) from None


def make_folders(folder: Path) -> list[Path]:
    """Makes a folder and those above it that are missing.

    Returns:
      Those that were made, the lowest first, for `remove_empty`.

    Raises:
      OSError, ValueError: if it cannot be made; nothing is left then.
    """
    missing = [place for place in (folder, *folder.parents) if not os.path.lexists(place)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError):
        remove_empty(missing)
        raise
    return missing


def remove_empty(folders: Sequence[Path]) -> None:
    """Removes folders, the first first, and passes over those that hold anything."""
    for folder in folders:
        with contextlib.suppress(OSError, ValueError):
            folder.rmdir()


def flush(path: str | os.PathLike[str]) -> None:
    """Waits until what is in a file, or the names that are in a folder, are on the disk (OSError).

    A power cut may otherwise leave a new name with an empty file, or with one of zeros.
    """
    if sys.platform == "win32":  # which opens no folders
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # what some file systems say of a folder
            raise
    finally:
        os.close(descriptor)


def flush_tree(folder: Path) -> None:
    """Flushes a folder and all that is in it (OSError)."""
    for place, _, names in os.walk(folder, topdown=False):
        for name in names:
            flush(os.path.join(place, name))
        flush(place)


@contextlib.contextmanager
def filled_aside(folder: Path) -> Iterator[Path]:
    """Gives an empty folder to fill, which takes the name `folder` when all went well.

    An empty folder of that name is replaced. After an error nothing of it is left.

    Raises:
      OSError: if it cannot be written, or a folder of that name holds anything.
    """
    with folder_aside(folder) as aside:
        filling = aside / "filling"
        filling.mkdir()  # with the usual permissions: a temporary folder is the owner's only
        yield filling
        flush_tree(filling)
        os.replace(filling, folder)
        flush(folder.parent)


def folder_aside(place: Path) -> contextlib.AbstractContextManager[Path]:
    """Gives a temporary folder beside `place`, which is removed in the end (OSError).

    Those that killed processes left beside `place` are removed too.
    """
    return _aside(place, is_folder=True)


@contextlib.contextmanager
def _aside(place: Path, *, is_folder: bool) -> Iterator[Path]:
    """Gives a temporary file or folder beside `place`; its maker holds a lock on it while it lives.

    The lock tells those that are in use from those that a killed process left.
    """
    prefix = f".{place.name[:40]}."  # a name has at most 255 bytes
    _clear(place.parent, prefix)
    with contextlib.ExitStack() as held:
        while True:
            aside = _make(place.parent, prefix, is_folder=is_folder)
            with contextlib.suppress(FileNotFoundError):  # another's `_clear` came before the lock
                held.enter_context(locked(aside, wait=True))
            if os.path.lexists(aside):
                break
        held.callback(_remove, aside)
        yield aside


def _make(folder: Path, prefix: str, *, is_folder: bool) -> Path:
    if is_folder:
        return Path(tempfile.mkdtemp(UNFINISHED, prefix, folder))
    descriptor, name = tempfile.mkstemp(UNFINISHED, prefix, folder)
    os.close(descriptor)
    return Path(name)


def _clear(folder: Path, prefix: str) -> None:
    """Removes temporary files and folders whose makers were killed."""
    for name in os.listdir(folder):
        if re.fullmatch(rf"{re.escape(prefix)}[a-z0-9_]{{8}}{re.escape(UNFINISHED)}", name):
            with (
                contextlib.suppress(OSError),
                locked(folder / name, wait=False) as is_nobodys,
            ):
                if is_nobodys:
                    _remove(folder / name)


def _remove(path: Path) -> None:
    """Removes a temporary file or folder, if it is still there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: str | os.PathLike[str], *, wait: bool) -> Iterator[bool | None]:
    """Locks a file or folder, no link, against every other holder; a killed one's lock is gone.

    Gives whether it is locked now; None where there are no such locks, as on NFS for folders.

    Raises:
      OSError: if it cannot be opened.
    """
    if sys.platform == "win32":
        yield None
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # a pipe would wait
    try:
        got: bool | None = True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            got = False
        except OSError:
            got = None
        yield got
    finally:
        os.close(descriptor)
