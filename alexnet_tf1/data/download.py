"""Downloads an archive and unpacks it, each whole or not at all."""

import contextlib
import gzip
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import Final

from alexnet_tf1 import files
from alexnet_tf1.errors import UserError

TIMEOUT_S: Final = (10, 60)  # to connect, and between two packets
MAX_FILE_BYTES: Final = 64 * 2**20  # twice a CIFAR-10 batch
MAX_ARCHIVE_BYTES: Final = 512 * 2**20  # unpacked; CIFAR-10 has 178 MiB


class DownloadError(UserError):
    """The network did not give the file: `--dataset auto` goes on without it."""


def fetch(url: str, sha256: str, target: Path, *, progress: bool) -> None:
    """Downloads a file, unless it is there with this hash already.

    The bytes go to a temporary file beside target, which gets target's name only when their hash
    is right. So neither an interruption nor a second process leaves half a file under that name.

    Args:
      url: an http(s) address.
      sha256: 64 hexadecimal digits.
      target: the file to be; its folder exists.
      progress: True shows a progress bar on standard error.

    Raises:
      DownloadError: if the server cannot be reached or sends something else.
      UserError: if target cannot be written.
    """
    import pooch  # takes 0.2 s with requests; only a download should cost that
    import requests

    pooch.get_logger().setLevel("ERROR")  # the caller has announced the download
    downloader = pooch.HTTPDownloader(progressbar=progress, chunk_size=2**16, timeout=TIMEOUT_S)
    aside = f"check the connection, or put {target.name} into {target.parent} yourself"
    try:
        pooch.retrieve(url, f"sha256:{sha256}", target.name, target.parent, downloader=downloader)
    except requests.RequestException as error:  # before OSError, its base class
        raise DownloadError(f"cannot download {url} ({_reason(error)}); {aside}") from error
    except ValueError as error:  # pooch's answer to a wrong hash
        raise DownloadError(f"{url} sent something else (SHA-256 differs); {aside}") from error
    except OSError as error:
        raise _unwritable(target.parent, error) from error


def _reason(error: Exception) -> str:
    """Says a network error in a few words: the innermost cause, without object addresses."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"HTTP status {response.status_code}"
    inner: BaseException = error
    while (cause := inner.__cause__ or inner.__context__) is not None:
        inner = cause
    text = inner.strerror if isinstance(inner, OSError) and inner.strerror else str(inner)
    return " ".join(text.split())[:120] or type(inner).__name__


def make_writable(folder: Path) -> list[Path]:
    """Makes a folder that can be written to; returns the folders made, the lowest first.

    Raises:
      UserError: if it cannot be made or written to.
    """
    try:
        made = files.make_folders(folder)
        with tempfile.TemporaryFile(dir=folder):
            return made
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: Path, error: OSError) -> UserError:
    why = error.strerror or type(error).__name__
    return UserError(
        f"cannot write to {folder}: {why}; make it writable, or give --data-dir the folder that "
        "holds CIFAR-10"
    )


def unpack(archive: Path, names: Collection[str], folder: Path) -> None:
    """Unpacks the named files of a .tar.gz into a new folder, all or none.

    Only regular files called `<folder's name>/<one of names>` are read, and the bytes are
    written under our own names: no path and no link of the archive is ever followed. Of two
    processes that unpack at once, the later uses what the earlier unpacked.

    pooch.Untar is not used, as it keeps none of this: it bounds no size, leaves a half-filled
    folder behind, and before Python 3.12 follows the archive's paths. tarfile's data filter would
    add nothing here, and some Python 3.10 and 3.11 lack it.

    Args:
      archive: a gzipped tar file.
      names: the files wanted; those that the archive lacks are left out.
      folder: the folder to be.

    Raises:
      UserError: if the archive is damaged, holds none of the files or larger ones than
        MAX_FILE_BYTES, or if the folder cannot be written.
    """
    wanted = {(folder.name, name) for name in names}
    try:
        with files.filled_aside(folder) as filling:
            if not _copy_members(archive, wanted, filling):
                raise UserError(f"{archive} holds no {folder.name}/{min(names)}; {_AGAIN}")
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError) as error:
        raise UserError(f"{archive} is damaged ({error}); {_AGAIN}") from error
    except OSError as error:
        with contextlib.suppress(OSError):
            if any(folder.iterdir()):  # another process was first
                return
        why = error.strerror or error
        raise UserError(
            f"cannot unpack {archive} into {folder.parent}: {why}; copy it to a writable folder "
            "with 200 MB of space and give that with --data-dir"
        ) from error


_AGAIN: Final = "delete it and download it again"


class _BoundedGzip(gzip.GzipFile):
    """Reads a gzip file of at most MAX_ARCHIVE_BYTES; a bomb's next byte is an error."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0 or self.tell() + size > MAX_ARCHIVE_BYTES:
            raise tarfile.ReadError(f"it unpacks to more than {MAX_ARCHIVE_BYTES} bytes")
        return super().read(size)


def _copy_members(archive: Path, wanted: set[tuple[str, str]], into: Path) -> int:
    """Copies the members at the wanted paths; returns how many there were."""
    remaining = set(wanted)
    if os.path.getsize(archive) > MAX_ARCHIVE_BYTES:  # zeros may follow, and gzip reads them all
        raise tarfile.ReadError(f"it has more than {MAX_ARCHIVE_BYTES} bytes")
    with (
        files.open_regular(archive) as file,
        _BoundedGzip(fileobj=file) as stream,
        tarfile.open(fileobj=stream, mode="r:") as tar,
    ):
        for member in tar:
            if not 0 <= member.size <= MAX_ARCHIVE_BYTES - member.offset_data:
                raise tarfile.ReadError(f"{member.name[:80]!r} has {member.size} bytes")
            place = PurePosixPath(member.name).parts
            if len(place) != 2 or place not in remaining or not member.isreg():
                continue
            if member.size > MAX_FILE_BYTES:
                raise tarfile.ReadError(f"{place[1]} has {member.size} bytes")
            source = tar.extractfile(member)
            assert source is not None  # it is a regular file
            with source, (into / place[1]).open("xb") as target:
                shutil.copyfileobj(source, target, 2**20)
            remaining.discard(place)  # the first of a name counts
            if not remaining:
                break
    return len(wanted) - len(remaining)
