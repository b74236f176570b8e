"""The same network and layers written with the real tf.layers, in a process of its own.

`tf.compat.v1.layers` exists only with the tf_keras package and TF_USE_LEGACY_KERAS=1, both of
which must be settled before TensorFlow is imported. So the tests run this file as a script:

    TF_USE_LEGACY_KERAS=1 python oracle.py INPUT.npz OUTPUT.npz

It takes inputs and weights from one file and writes what the real layers make of them to the
other. benchmarks/step_time.py times `reference_alexnet` as the original program's graph.
"""

import json
import sys

import numpy as np
import tensorflow.compat.v1 as tf


def reference_batch_normal(inputs):
    """The original's hand-written normalisation, without a tf.cond."""
    mean, variance = tf.nn.moments(inputs, list(range(len(inputs.shape) - 1)))
    channels = int(inputs.shape[-1])
    scale = tf.Variable(tf.ones([channels]), name="scale")
    shift = tf.Variable(tf.zeros([channels]), name="shift")
    ema = tf.train.ExponentialMovingAverage(decay=0.9)
    with tf.control_dependencies([ema.apply([mean, variance])]):
        mean, variance = tf.identity(mean), tf.identity(variance)
    return tf.nn.batch_normalization(inputs, mean, variance, shift, scale, 0.001)


def reference_alexnet():
    """The original's graph; returns a dict of its ends."""
    x = tf.placeholder(tf.float32, [None, 3072])
    y = tf.placeholder(tf.int64, [None])
    is_training = tf.placeholder(tf.bool, [])
    image = tf.transpose(tf.reshape(x, [-1, 3, 32, 32]), perm=[0, 2, 3, 1])

    conv1 = tf.layers.conv2d(image, 48, (3, 3), padding="same", activation=tf.nn.relu, name="conv1")
    norm1 = tf.nn.local_response_normalization(
        conv1, depth_radius=4, bias=1.0, alpha=0.001 / 9.0, beta=0.75
    )
    pool1 = tf.layers.max_pooling2d(norm1, (2, 2), (2, 2))
    conv2 = tf.layers.conv2d(pool1, 96, (3, 3), padding="same", name="conv2")
    bn2 = tf.nn.relu(tf.layers.batch_normalization(conv2, training=is_training))
    pool2 = tf.layers.max_pooling2d(bn2, (2, 2), (2, 2))
    conv3 = tf.layers.conv2d(
        pool2, 192, (3, 3), padding="same", activation=tf.nn.relu, name="conv3"
    )
    conv4 = tf.layers.conv2d(
        conv3, 192, (3, 3), padding="same", activation=tf.nn.relu, name="conv4"
    )
    conv5 = tf.layers.conv2d(conv4, 96, (3, 3), padding="same", activation=tf.nn.relu, name="conv5")
    bn5 = tf.nn.relu(tf.layers.batch_normalization(conv5, training=is_training))
    pool5 = tf.layers.max_pooling2d(bn5, (2, 2), (2, 2))
    flat = tf.layers.flatten(pool5)
    fc1 = tf.nn.relu(reference_batch_normal(tf.layers.dense(flat, 1024)))
    fc2 = tf.nn.relu(reference_batch_normal(tf.layers.dense(fc1, 1024)))
    logits = tf.layers.dense(fc2, 10)

    loss = tf.losses.sparse_softmax_cross_entropy(labels=y, logits=logits)
    hits = tf.equal(tf.argmax(logits, 1), y)
    accuracy = tf.reduce_mean(tf.cast(hits, tf.float64))
    with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        train_op = tf.train.AdamOptimizer(1e-3).minimize(loss)
    return {
        "images": x,
        "labels": y,
        "is_training": is_training,
        "logits": logits,
        "loss": loss,
        "accuracy": accuracy,
        "train_op": train_op,
    }


def train_reference(given):
    """60 steps from the given weights on the given batches."""
    net = reference_alexnet()
    trainable = tf.trainable_variables()
    found = {"network/names": np.array([v.op.name for v in trainable])}
    losses = []
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for number, variable in enumerate(trainable):
            variable.load(given[f"weights/{number}"], session)
        # float64, as the original feeds
        for pixels, labels in zip(given["pixels"], given["labels"], strict=True):
            images = pixels / 127.5 - 1
            feed = {net["images"]: images, net["labels"]: labels, net["is_training"]: True}
            losses.append(session.run([net["loss"], net["train_op"]], feed)[0])
        images = given["pixels"][0] / 127.5 - 1
        for mode in (False, True):
            feed = {net["images"]: images, net["is_training"]: mode}
            found[f"network/logits_{mode}"] = session.run(net["logits"], feed)
        for number, variable in enumerate(trainable):
            found[f"network/trained/{number}"] = session.run(variable)
        for variable in tf.global_variables():
            if "moving" in variable.op.name:
                found[f"network/averages/{variable.op.name}"] = session.run(variable)
    found["network/losses"] = np.array(losses)
    return found


REAL_LAYERS = {
    "conv2d": lambda x, t: tf.layers.conv2d(
        x, 7, 3, padding="same", activation=tf.nn.relu, name="conv"
    ),
    "dense": lambda x, t: tf.layers.dense(x, 11, name="fc"),
    "max_pooling2d": lambda x, t: tf.layers.max_pooling2d(x, 2, 2),
    "flatten": lambda x, t: tf.layers.flatten(x),
    "batch_normalization": lambda x, t: tf.layers.batch_normalization(x, training=t, name="bn"),
}


def run_layer(build, inputs, cotangent, weights):
    """Outputs, gradients, names and moving averages of one layer, in both modes.

    Used on the real layers here and on this project's in tests/test_layers.py.
    """
    found = {}
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [None, *inputs.shape[1:]])
        is_training = tf.placeholder(tf.bool, [])
        y = build(x, is_training)
        sources = [x, *tf.trainable_variables()]
        gradients = tf.gradients(y, sources, tf.constant(cotangent))
        updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
        found["names"] = np.array([v.op.name for v in tf.global_variables()])
        found["trainable"] = np.array([v.op.name for v in tf.trainable_variables()])
        found["updates"] = np.array(len(updates))
        session.run(tf.global_variables_initializer())
        for number, variable in enumerate(tf.trainable_variables()):
            variable.load(weights[number], session)
        for mode in (True, False):  # training first: it moves the averages inference reads
            feed = {x: inputs, is_training: mode}
            fetched = session.run([y, gradients], feed)
            session.run(updates, feed)
            found[f"outputs_{mode}"] = fetched[0]
            for number, gradient in enumerate(fetched[1]):
                found[f"gradient_{mode}_{number}"] = gradient
            for variable in tf.global_variables():
                found[f"value_{mode}/{variable.op.name}"] = session.run(variable)
    return found


def main():
    given = dict(np.load(sys.argv[1]))
    found = {}
    for name, build in REAL_LAYERS.items():
        weights = [given[k] for k in sorted(given) if k.startswith(f"layers/{name}/weights/")]
        layer = run_layer(
            build, given[f"layers/{name}/inputs"], given[f"layers/{name}/cotangent"], weights
        )
        found |= {f"layers/{name}/{key}": value for key, value in layer.items()}
    with tf.Graph().as_default():
        found |= train_reference(given)
    np.savez(sys.argv[2], **found)
    print(json.dumps({"tf_layers": tf.layers.dense.__module__}))


if __name__ == "__main__":
    main()
