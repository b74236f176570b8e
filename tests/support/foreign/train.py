"""Trains every style with every fault, and saves it as its own program would.

    cd tests; TF_USE_LEGACY_KERAS=1 python -m support.foreign.train FOLDER [NAME/FAULT...]

A process of its own, which support.legacy_keras forks: the real tf.layers, tf_slim and tf_keras in
a session need that variable before TensorFlow is imported. It leaves FOLDER/NAME/FAULT/
model.ckpt-100 with its .meta;
FOLDER/models.json, which says of each how it is fed; and FOLDER/KIND_x.npy and KIND_y.npy, the
examples of each kind of input. They lie far from 0, so that averages at their initial values ruin
the answers.
"""

import json
import random
import sys
import warnings
from pathlib import Path

import numpy as np
import tensorflow as tf2
import tensorflow.compat.v1 as tf

from support.foreign import by_hand, layers, slim  # noqa: F401 - they register
from support.foreign.pieces import BATCH, EXAMPLES, SHAPES, STEPS, STYLES, examples


def train(session, model, kind):
    coordinator = tf.train.Coordinator()
    threads = tf.train.start_queue_runners(session, coordinator)
    arrays = dict(zip("xy", examples(kind, seed=1), strict=True))
    draw = np.random.RandomState(3)
    for _ in range(STEPS):
        rows = draw.randint(0, EXAMPLES, BATCH)
        feed = {
            tensor: arrays[value][rows] if isinstance(value, str) else value
            for tensor, value in model.training.items()
        }
        session.run(model.train_op, feed)
    coordinator.request_stop()
    coordinator.join(threads, ignore_live_threads=True)


def named(feed):
    return None if feed is None else {tensor.name: value for tensor, value in feed.items()}


def write(style, fault, folder):
    """Builds, trains and saves one; returns what to say of it."""
    (tf.disable_control_flow_v2 if style.v1 else tf.enable_control_flow_v2)()
    (tf.disable_resource_variables if style.v1 else tf.enable_resource_variables)()
    tf2.keras.backend.clear_session()
    config = tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
    config.graph_options.rewrite_options.disable_meta_optimizer = True  # costs more than it saves
    with tf.Graph().as_default(), tf.Session(config=config) as session:
        tf.set_random_seed(1)
        random.seed(1)  # of which tf_keras draws its layers' seeds
        model = style.build(fault)
        session.run(tf.global_variables_initializer())
        train(session, model, style.kind)
        folder.mkdir(parents=True)
        prefix = tf.train.Saver().save(session, str(folder / "model.ckpt"), STEPS)
    return {
        "kind": style.kind,
        "prefix": prefix,
        "examples": model.examples.name,
        "logits": model.logits.name,
        "inference": named(model.inference),
        "batch_mode": named(model.batch_mode),
        "switch": None if model.switch is None else model.switch.name,
    }


def main():
    folder, *wanted = sys.argv[1:]
    folder = Path(folder)
    for kind in SHAPES:
        for letter, array in zip("xy", examples(kind), strict=True):
            np.save(folder / f"{kind}_{letter}.npy", array)
    models = {}
    for style in STYLES:
        for fault in style.faults:
            name = f"{style.name}/{fault}"
            if not wanted or name in wanted:
                models[name] = write(style, fault, folder / name)
    (folder / "models.json").write_text(json.dumps(models, indent=1))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    tf.disable_eager_execution()
    main()
