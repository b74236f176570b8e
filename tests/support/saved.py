"""Checkpoints for the tests of the doctor, written by the real tf.train.Saver."""

import numpy as np
import tensorflow.compat.v1 as tf


def save(prefix, values, *, global_step=None, version=2):
    """Saves arrays under these names, of any spelling, and returns the checkpoint's prefix."""
    with tf.Graph().as_default(), tf.Session() as session:
        variables = {
            name: tf.get_variable(f"v{number}", initializer=np.asarray(value), use_resource=True)
            for number, (name, value) in enumerate(values.items())
        }
        session.run(tf.global_variables_initializer())
        saver = tf.train.Saver(variables, write_version=version)
        return saver.save(session, str(prefix), global_step=global_step, write_meta_graph=False)


def layer(name, spelling="{}/moving_mean {}/moving_variance", affine="{}/gamma {}/beta", **values):
    """The variables of a healthy layer with three channels; `values` replace some by role.

    Args:
      name: stands for {} in the spellings.
      spelling: the names of the mean and of the variance.
      affine: the names of gamma and beta; may be empty.
      values: mean=..., variance=...; None leaves the variable out.
    """
    mean, variance = (part.format(name) for part in spelling.split())
    found = {part.format(name): np.float32([0.9, 1.1, 1.3]) for part in affine.split()}
    roles = {"mean": [0.2, -0.1, 0.4], "variance": [0.7, 1.9, 0.01]} | values
    for key, role in ((mean, "mean"), (variance, "variance")):
        if roles[role] is not None:
            found[key] = np.float32(roles[role])
    return found
