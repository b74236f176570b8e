"""Phrases that several rules use."""

from collections.abc import Sequence

UPDATE_OPS = "tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS))"
GIVE_TRAINING = (
    "pass training=is_training, True in training, to the layer and build train_op under "
    f"{UPDATE_OPS}"
)
SAVE_ALL = (
    "save with tf.train.Saver(), not with Saver(tf.trainable_variables()), whose checkpoint "
    "cannot be used for inference"
)


def listed(names: Sequence[str]) -> str:
    """The names as a sentence has them: "a", "a and b", "a, b and c"."""
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)


def is_or_are(things: Sequence[object]) -> str:
    """The verb after `listed`."""
    return "is" if len(things) == 1 else "are"


def it_or_them(things: Sequence[object]) -> str:
    """The pronoun for what `listed` named."""
    return "it" if len(things) == 1 else "them"
