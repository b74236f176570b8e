"""A mistake of a user's, and how a folder is changed so that there is one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from support.cifar10_files import write_folder

IMAGES = 20  # in a file of CIFAR-10, here


def nothing(place: Path) -> None:
    """Leaves the folder as it is."""


class Case(NamedTuple):
    """One mistake.

    Attributes:
      arguments: what is typed, in a folder that holds `run`, a run of two steps.
      says: what the line has to name: the option or file, and where needed the reason.
      make: changes the folder first.
      spares_root: whether the mistake is none for root, who may read anything.
      first: how a line begins that may precede, as what takes long is announced.
    """

    arguments: tuple[str, ...]
    says: tuple[str, ...]
    make: Callable[[Path], None] = nothing
    spares_root: bool = False
    first: str = "error: "


def write(name: str, content: str | bytes) -> Callable[[Path], None]:
    """A change that puts a file in the place of what is there (which is a hard link)."""

    def make(place: Path) -> None:
        remove(name)(place)
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content.encode() if isinstance(content, str) else content)

    return make


def remove(name: str) -> Callable[[Path], None]:
    def make(place: Path) -> None:
        if (place / name).is_dir():
            shutil.rmtree(place / name)
        else:
            (place / name).unlink(missing_ok=True)

    return make


def folder(name: str) -> Callable[[Path], None]:
    def make(place: Path) -> None:
        remove(name)(place)
        (place / name).mkdir(parents=True)

    return make


def move(name: str, to: str) -> Callable[[Path], None]:
    return lambda place: os.rename(place / name, place / to)


def copy(name: str, to: str) -> Callable[[Path], None]:
    return lambda place: write(to, (place / name).read_bytes())(place)


def edit(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda place: write(name, change((place / name).read_bytes()))(place)


def both(*changes: Callable[[Path], None]) -> Callable[[Path], None]:
    def make(place: Path) -> None:
        for change in changes:
            change(place)

    return make


def locked(name: str) -> Callable[[Path], None]:
    return both(edit(name, bytes), lambda place: (place / name).chmod(0))


def pipe(name: str) -> Callable[[Path], None]:
    def make(place: Path) -> None:
        (place / name).parent.mkdir(exist_ok=True)
        os.mkfifo(place / name)

    return both(remove(name), make)


def grow(name: str) -> Callable[[Path], None]:
    """Adds zeros, of which the disk holds none, to a file that is there."""
    return lambda place: os.truncate(place / name, 10**10)


def huge(name: str) -> Callable[[Path], None]:
    return both(write(name, b""), grow(name))


def flip(data: bytes) -> bytes:
    return data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]


def cifar10(change: Callable[[Path], None] = nothing) -> Callable[[Path], None]:
    return both(lambda place: _write_cifar10(place), change)


def _write_cifar10(place: Path) -> None:
    write_folder(place / "data/cifar-10-batches-py", IMAGES)
