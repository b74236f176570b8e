"""Phrases that several rules use."""

from collections.abc import Sequence

UPDATE_OPS = "tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS))"
REPAIR = "or repair this checkpoint with `recalibrate`"


def listed(names: Sequence[str]) -> str:
    """The names as a sentence has them: "a", "a and b", "a, b and c"."""
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)


def is_or_are(things: Sequence[object]) -> str:
    """The verb after `listed`."""
    return "is" if len(things) == 1 else "are"


def it_or_them(things: Sequence[object]) -> str:
    """The pronoun for what `listed` named."""
    return "it" if len(things) == 1 else "them"
