"""Phrases that several rules use."""

import re
from collections.abc import Sequence, Sized

UPDATE_OPS = "tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS))"
SAVE_ALL = (
    "save with tf.train.Saver(), not with Saver(tf.trainable_variables()), whose checkpoint "
    "cannot be used for inference"
)


def listed(names: Sequence[str]) -> str:
    """The names as a sentence has them: "a", "a and b", "a, b and c"."""
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)


def some(names: Sequence[str]) -> str:
    """As `listed`, of many names the first four: "a, b, c, d and 9 more"."""
    return listed([*names[:4], f"{len(names) - 4} more"] if len(names) > 4 else names)


def is_or_are(things: Sized) -> str:
    """The verb after `listed`."""
    return "is" if len(things) == 1 else "are"


def it_or_them(things: Sequence[object]) -> str:
    """The pronoun for what `listed` named."""
    return "it" if len(things) == 1 else "them"


def training_argument(layer: str) -> str:
    """The argument that tells the layer to train, by the names that libraries give their layers."""
    parts = layer.split("/")
    if any(re.fullmatch(r"BatchNorm(_\d+)?", part) for part in parts):
        return "is_training="  # slim's, which is True unless told otherwise
    if any(re.fullmatch(r"batch_normalization(_\d+)?", part) for part in parts):
        return "training="
    return "training= (is_training= in slim)"


def give_training(layer: str) -> str:
    """The remedy for a layer that was not told to train."""
    argument, _, other = training_argument(layer).partition(" ")
    return (
        f"pass {argument}is_training{' ' * bool(other)}{other}, True in training, to the layer and "
        f"build train_op under {UPDATE_OPS}"
    )
