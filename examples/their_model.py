"""A TF1 program as people wrote them, with the real tf.layers and, unless mended, a fault.

    pip install tf_keras
    TF_USE_LEGACY_KERAS=1 python examples/their_model.py broken
    TF_USE_LEGACY_KERAS=1 python examples/their_model.py mended
    TF_USE_LEGACY_KERAS=1 python examples/their_model.py test CHECKPOINT

It tells three kinds of rock by two made-up measurements, trains 300 steps, saves model.ckpt-300
and 300 measurements (x.npy, their rocks y.npy) into the folder broken or mended, and prints its
accuracy; `test` prints that of a checkpoint. docs/migration.md shows what the commands of
alexnet_tf1 make of it. Nothing of alexnet_tf1 is used here.
"""

import importlib.util
import os
import sys

import numpy as np

if importlib.util.find_spec("tf_keras") is None:
    sys.exit("error: tf.layers are in tf_keras today, which is not installed; pip install tf_keras")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")  # tf.layers: before TensorFlow is imported
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import tensorflow.compat.v1 as tf

DENSITY_AND_HARDNESS = [[2600, 600], [2900, 350], [3300, 700]]  # kg/m3, HV; one row a rock


def measurements(count, seed):
    """float32 [count, 2] measurements and int64 [count] rocks, as many of each."""
    random = np.random.RandomState(seed)
    rocks = np.arange(count) % 3
    values = np.array(DENSITY_AND_HARDNESS)[rocks] + random.normal(0, 10, [count, 2])
    return values.astype(np.float32), rocks


def build(is_mended):
    """The model, in the default graph."""
    x = tf.placeholder(tf.float32, [None, 2], name="x")
    y = tf.placeholder(tf.int64, [None], name="y")
    is_training = tf.placeholder(tf.bool, [], name="is_training")
    h = tf.layers.batch_normalization(x, training=is_training, momentum=0.9)
    h = tf.layers.dense(h, 16, activation=tf.nn.relu)
    logits = tf.layers.dense(h, 3, name="logits")
    loss = tf.losses.sparse_softmax_cross_entropy(y, logits)
    global_step = tf.train.get_or_create_global_step()
    optimizer = tf.train.AdamOptimizer(0.01)
    if is_mended:
        with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
            train_op = optimizer.minimize(loss, global_step, name="train_op")
    else:
        train_op = optimizer.minimize(loss, global_step, name="train_op")
    accuracy = tf.reduce_mean(tf.cast(tf.equal(tf.argmax(logits, 1), y), tf.float32))
    return {"x": x, "y": y, "is_training": is_training, "train_op": train_op, "accuracy": accuracy}


def train(folder, is_mended):
    """300 steps of 30 measurements; saves into the folder."""
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(1)
        model = build(is_mended)
        x, y, is_training = model["x"], model["y"], model["is_training"]
        session.run(tf.global_variables_initializer())
        for step in range(300):
            values, rocks = measurements(30, seed=step)
            session.run(model["train_op"], {x: values, y: rocks, is_training: True})
        os.makedirs(folder, exist_ok=True)
        tf.train.Saver().save(session, os.path.join(folder, "model.ckpt"), global_step=300)
        print_accuracy(session, model)
    for name, array in zip("xy", measurements(300, seed=1000), strict=True):
        np.save(os.path.join(folder, f"{name}.npy"), array)


def test(checkpoint):
    """Restores a checkpoint and prints its accuracy."""
    with tf.Graph().as_default(), tf.Session() as session:
        model = build(is_mended=True)
        tf.train.Saver().restore(session, checkpoint)
        print_accuracy(session, model)


def print_accuracy(session, model):
    """The accuracy on 300 measurements that it was not trained on, in both modes."""
    values, rocks = measurements(300, seed=1000)
    for name, mode in (("training mode", True), ("inference", False)):
        feed = {model["x"]: values, model["y"]: rocks, model["is_training"]: mode}
        print(f"accuracy in {name}: {100 * session.run(model['accuracy'], feed):.1f}%")


def main():
    """Does what the command line says."""
    given = sys.argv[1:]
    if len(given) == 2 and given[0] == "test":
        test(given[1])
    elif given and set(given) <= {"broken", "mended"}:
        for name in given:
            train(name, is_mended=name == "mended")
    else:
        sys.exit(f"usage: python {sys.argv[0]} {{broken,mended}} ... | test CHECKPOINT")


if __name__ == "__main__":
    main()
