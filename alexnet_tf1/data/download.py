"""Fetches an archive and unpacks it, so that half a job is never taken for a whole one."""

from __future__ import annotations

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

from alexnet_tf1.errors import UserError

TIMEOUT_S: Final = (10, 60)  # to connect, and between two packets
MAX_FILE_BYTES: Final = 64 * 2**20  # twice a CIFAR-10 batch
MAX_ARCHIVE_BYTES: Final = 512 * 2**20  # unpacked; CIFAR-10 has 178 MiB


class DownloadError(UserError):
    """The network did not give the file: `--dataset auto` goes on without it."""


def fetch(url: str, sha256: str, target: Path, *, progress: bool) -> None:
    """Downloads a file, unless it is there with this hash already.

    The bytes go to a temporary file beside target, which takes target's name only when their
    hash is right: neither an interruption nor a second process leaves anything to be trusted.

    Args:
      url: an http(s) address.
      sha256: 64 hexadecimal digits.
      target: the file to be; its folder exists.
      progress: True shows a progress bar on standard error.

    Raises:
      DownloadError: if the server cannot be reached or sends something else.
      UserError: if target cannot be written.
    """
    import pooch  # takes 0.2 s with requests, which only a download should cost
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
    """A network error in a few words: the innermost cause, without object addresses."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"HTTP status {response.status_code}"
    inner: BaseException = error
    while (cause := inner.__cause__ or inner.__context__) is not None:
        inner = cause
    text = inner.strerror if isinstance(inner, OSError) and inner.strerror else str(inner)
    return " ".join(text.split())[:120] or type(inner).__name__


def make_folder(folder: Path) -> None:
    """Makes a folder that can be written to, or raises UserError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: Path, error: OSError) -> UserError:
    why = error.strerror or type(error).__name__
    return UserError(f"cannot write to {folder}: {why}; give a writable folder with --data-dir")


def unpack(archive: Path, names: Collection[str], folder: Path) -> None:
    """Unpacks the named files of a .tar.gz into a new folder, all or none.

    Only regular files called `<folder's name>/<one of names>` are read, and the bytes are
    written under our own names: no path and no link of the archive is ever followed. The folder
    is filled beside its place and then renamed; of two processes, the later uses the earlier's.

    Args:
      archive: a gzipped tar file.
      names: the files wanted; those that the archive lacks are left out.
      folder: the folder to be.

    Raises:
      UserError: if the archive is damaged, holds none of the files or larger ones than
        MAX_FILE_BYTES, or if the folder cannot be written.
    """
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpacking-") as aside:
            filling = Path(aside) / folder.name
            filling.mkdir()  # with the usual permissions: a temporary folder is the owner's only
            if not _copy_members(archive, names, filling):
                raise UserError(f"{archive} holds no {folder.name}/{min(names)}; {_AGAIN}")
            _put_in_place(filling, folder)
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError) as error:
        raise UserError(f"{archive} is damaged ({error}); {_AGAIN}") from error
    except OSError as error:
        why = error.strerror or error
        raise UserError(
            f"cannot unpack {archive} into {folder.parent}: {why}; copy it to a writable folder "
            "with 200 MB of space and give that with --data-dir"
        ) from error


_AGAIN: Final = "delete it, and it is downloaded again"


class _BoundedGzip(gzip.GzipFile):
    """A gzip stream that ends in an error where a bomb would begin."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0 or self.tell() + size > MAX_ARCHIVE_BYTES:
            raise tarfile.ReadError(f"it unpacks to more than {MAX_ARCHIVE_BYTES} bytes")
        return super().read(size)


def _copy_members(archive: Path, names: Collection[str], into: Path) -> int:
    """Copies the wanted members; answers how many there were."""
    wanted = {(into.name, name) for name in names}
    copied = 0
    with _BoundedGzip(archive) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
        for member in tar:
            if not 0 <= member.size <= MAX_ARCHIVE_BYTES - member.offset_data:
                raise tarfile.ReadError(f"{member.name[:80]!r} has {member.size} bytes")
            place = PurePosixPath(member.name).parts
            if place not in wanted or not member.isreg():
                continue
            if member.size > MAX_FILE_BYTES:
                raise tarfile.ReadError(f"{place[-1]} has {member.size} bytes")
            source = tar.extractfile(member)
            assert source is not None  # it is a regular file
            with source, (into / place[-1]).open("xb") as target:
                shutil.copyfileobj(source, target, 2**20)
            wanted.discard(place)  # the first of a name counts
            copied += 1
            if not wanted:
                break
    return copied


def _put_in_place(filled: Path, folder: Path) -> None:
    """Renames a filled folder to its name, unless another process was first."""
    try:
        os.rename(filled, folder)  # an empty folder in its place is replaced, a full one is not
    except OSError:
        with contextlib.suppress(OSError):
            if any(folder.iterdir()):
                return
        raise
