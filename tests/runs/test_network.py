"""A checkpoint that is whole and of another network is not restored."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from support.saved import save

from alexnet_tf1.errors import UserError
from alexnet_tf1.runs.network import restore_all

RIGHT = {"a": np.float32([1, 2]), "a/slot": np.float32([3, 4])}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({}, None),
        ({"a": np.float32([1, 2, 3])}, "a is float32 [3], not float32 [2]"),
        ({"a/slot": np.int32([1, 2])}, "a/slot is int32 [2], not float32 [2]"),
        ({"a/slot": None}, "a/slot is missing, not float32 [2]"),
    ],
)
def test_training_goes_on_only_from_a_checkpoint_that_has_every_variable(wrong, said, tmp_path):
    values = {name: value for name, value in (RIGHT | wrong).items() if value is not None}
    prefix = save(tmp_path / "model.ckpt-1", values)
    with tf.Graph().as_default(), tf.Session() as session:
        variables = [tf.get_variable(name, [2], use_resource=True) for name in RIGHT]
        saver = tf.train.Saver()
        if said is None:
            restore_all(session, saver, prefix)
            np.testing.assert_array_equal(session.run(variables), list(RIGHT.values()))
        else:
            with pytest.raises(UserError, match="is not of this run") as refused:
                restore_all(session, saver, prefix)
            assert said in str(refused.value)
