"""Recognises what Git LFS leaves in the place of a file that it has not fetched."""

from __future__ import annotations

import os

from alexnet_tf1.errors import UserError
from alexnet_tf1.files import open_regular

_FIRST = b"version https://git-lfs.github.com/spec/"


def refuse_pointer(path: str | os.PathLike[str]) -> None:
    """Looks at the first bytes of a file.

    Raises:
      UserError: if it is a Git LFS pointer.
      OSError: if it cannot be opened.
    """
    with open_regular(path) as file:
        if file.read(len(_FIRST)) == _FIRST:
            raise UserError(f"{path} is a Git LFS pointer, not the file; run `git lfs pull`")
