"""The network: placeholders -> inference -> loss -> accuracy -> train_op."""

from typing import Any, Literal, NamedTuple

import tensorflow.compat.v1 as tf

from alexnet_tf1 import layers, norms
from alexnet_tf1.ops import ORIGINAL, Ops, Tensor

UpdateOps = Literal["control", "none"]
FcBatchNorm = Literal["batch", "ema"]


class AlexNet(NamedTuple):
    """The ends of the graph that a session feeds and fetches."""

    images: Tensor  # float32 placeholder [N, 3072], pixels / 127.5 - 1, channel-major
    labels: Tensor  # int64 placeholder [N], 0..9
    is_training: Tensor  # bool placeholder []
    logits: Tensor  # float32 [N, 10]
    probabilities: Tensor  # float32 [N, 10], softmax of the logits
    hits: Tensor  # bool [N], whether the largest logit is the label's
    loss: Tensor  # float32 [], mean softmax cross-entropy in nats
    accuracy: Tensor  # float64 [], mean of hits
    global_step: Tensor  # int64 variable [], steps trained
    train_op: Tensor  # trains one step; None in a graph that has none
    norms: tuple[norms.Norm, ...]  # the four batch normalisations in forward order


def build_alexnet(
    update_ops: UpdateOps = "control",
    fc_batch_norm: FcBatchNorm = "batch",
    *,
    optimizer: Any = None,
    label_smoothing: float = 0.0,
    ops: Ops = ORIGINAL,
) -> AlexNet:
    """Builds the network, its loss and its training op in the current graph.

    Args:
      update_ops: "control" trains under a control dependency on UPDATE_OPS; "none" forgets it,
        which is the mistake this project is about.
      fc_batch_norm: "batch" is the original, whose fully connected layers normalise with the
        batch even in inference; "ema" gives them moving averages.
      optimizer: a tf.train.Optimizer; None for the original's.
      label_smoothing: see `cross_entropy`.
      ops: what the layers compute with.

    Returns:
      The tensors and ops to feed and fetch.

    Raises:
      ValueError: if an option is not one of those above.
    """
    net = build_for_testing(fc_batch_norm, label_smoothing=label_smoothing, ops=ops)
    return net._replace(train_op=minimize(net.loss, update_ops, optimizer))


def build_for_testing(
    fc_batch_norm: FcBatchNorm = "batch", *, label_smoothing: float = 0.0, ops: Ops = ORIGINAL
) -> AlexNet:
    """Builds what `build_alexnet` does, but for the training op; the arguments are its."""
    _check("fc_batch_norm", fc_batch_norm, ("batch", "ema"))
    images = tf.placeholder(tf.float32, [None, 3072], name="images")
    labels = tf.placeholder(tf.int64, [None], name="labels")
    is_training = tf.placeholder(tf.bool, [], name="is_training")

    logits = inference(images, is_training, fc_batch_norm, ops)
    hits = tf.equal(tf.argmax(logits, 1), labels, name="hits")
    return AlexNet(
        images=images,
        labels=labels,
        is_training=is_training,
        logits=logits,
        probabilities=tf.nn.softmax(logits, name="probabilities"),
        hits=hits,
        loss=cross_entropy(labels, logits, label_smoothing),
        accuracy=tf.reduce_mean(tf.cast(hits, tf.float64), name="accuracy"),
        global_step=tf.train.get_or_create_global_step(),
        train_op=None,
        norms=norms.recorded(tf.get_default_graph()),
    )


def inference(
    images: Tensor, is_training: Tensor | bool, fc_batch_norm: FcBatchNorm, ops: Ops = ORIGINAL
) -> Tensor:
    """Computes the logits of images.

    Args:
      images: float32 [N, 3072], channel-major.
      is_training: bool [] tensor, or a Python bool, which builds the one branch only.
      fc_batch_norm: see build_alexnet.
      ops: what the layers compute with.

    Returns:
      float32 [N, 10].
    """
    x = tf.reshape(images, [-1, 3, 32, 32], name="channels_first")
    x = tf.transpose(x, [0, 2, 3, 1], name="channels_last")  # [N, 32, 32, 3]

    x = layers.conv2d(x, 48, 3, activation=tf.nn.relu, ops=ops, name="conv1")
    x = ops.local_response_normalization(
        x, depth_radius=4, bias=1.0, alpha=0.001 / 9.0, beta=0.75, name="norm1"
    )
    x = layers.max_pooling2d(x, 2, 2, name="pool1")  # [N, 16, 16, 48]

    x = layers.conv2d(x, 96, 3, ops=ops, name="conv2")
    x = layers.batch_normalization(x, is_training, ops=ops, name="batch_normalization")
    x = tf.nn.relu(x, name="relu2")
    x = layers.max_pooling2d(x, 2, 2, name="pool2")  # [N, 8, 8, 96]

    x = layers.conv2d(x, 192, 3, activation=tf.nn.relu, ops=ops, name="conv3")
    x = layers.conv2d(x, 192, 3, activation=tf.nn.relu, ops=ops, name="conv4")
    # A quirk of the original, kept: conv5 is rectified before its normalisation and after it.
    x = layers.conv2d(x, 96, 3, activation=tf.nn.relu, ops=ops, name="conv5")
    x = layers.batch_normalization(x, is_training, ops=ops, name="batch_normalization_1")
    x = tf.nn.relu(x, name="relu5")
    x = layers.max_pooling2d(x, 2, 2, name="pool5")  # [N, 4, 4, 96]

    x = layers.flatten(x, name="flatten")  # [N, 1536]
    x = tf.cast(x, tf.float32)  # bfloat16, if any, ends here; a float32 tensor passes unchanged
    for name, norm in (("dense", "batch_normal"), ("dense_1", "batch_normal_1")):
        x = layers.dense(x, 1024, ops=ops, name=name)
        x = layers.batch_normal(x, is_training, statistics=fc_batch_norm, ops=ops, name=norm)
        x = tf.nn.relu(x, name=f"{name}_relu")  # [N, 1024]
    return layers.dense(x, 10, ops=ops, name="dense_2")


def cross_entropy(labels: Tensor, logits: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Takes the mean softmax cross-entropy in nats.

    Args:
      labels: int64 [N].
      logits: float32 [N, C].
      label_smoothing: part of a label that is spread over all classes, 0 to 1.

    Returns:
      float32 [].
    """
    if not label_smoothing:
        return tf.losses.sparse_softmax_cross_entropy(labels, logits, scope="loss")
    targets = tf.one_hot(labels, int(logits.shape[-1]))
    return tf.losses.softmax_cross_entropy(
        targets, logits, label_smoothing=label_smoothing, scope="loss"
    )


def minimize(loss: Tensor, update_ops: UpdateOps, optimizer: Any = None) -> Tensor:
    """Builds the op that trains one step and counts it in global_step.

    Args:
      loss: float32 [], what to make small.
      update_ops: see build_alexnet.
      optimizer: see build_alexnet.

    Returns:
      The op, named train_op.
    """
    _check("update_ops", update_ops, ("control", "none"))
    optimizer = optimizer or tf.train.AdamOptimizer(1e-3)
    global_step = tf.train.get_or_create_global_step()
    if update_ops == "none":
        return optimizer.minimize(loss, global_step, name="train_op")
    # The author's lesson. minimize() runs the gradients and nothing else: unless the update
    # ops come before it here, the moving averages that inference reads stay where they began.
    with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        return optimizer.minimize(loss, global_step, name="train_op")


def _check(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{option}={value!r} is not one of {', '.join(map(repr, allowed))}")
