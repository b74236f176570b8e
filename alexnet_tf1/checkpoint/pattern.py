"""Recognises the paths that TensorFlow takes for patterns of names."""

import re

from alexnet_tf1.errors import UserError


def refuse_pattern(path: str) -> None:
    """Looks for the characters that make a path a pattern.

    Raises:
      UserError: if it has one.
    """
    if re.search(r"[\[\\]", path):
        raise UserError(
            f"{path}: TensorFlow takes [ and \\ in a path for a pattern, here and in "
            "Saver.restore; rename the folder or the file"
        )
