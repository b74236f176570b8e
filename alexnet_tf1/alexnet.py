"""The network: placeholders -> inference -> loss -> accuracy -> train_op."""

from __future__ import annotations

import functools
from typing import Literal, NamedTuple

import tensorflow.compat.v1 as tf

from alexnet_tf1 import layers
from alexnet_tf1.distributed.collectives import Replica
from alexnet_tf1.fast.kernels import EXACT, Kernels, Tensor
from alexnet_tf1.layers import Norm
from alexnet_tf1.recipes.optimizer import Optimization

UpdateOps = Literal["control", "none"]
FcBatchNorm = Literal["batch", "ema"]
ORIGINAL = Optimization()  # Adam at a constant rate


class AlexNet(NamedTuple):
    """The ends of the graph that a session feeds and fetches.

    Attributes:
      images: float32 placeholder [N, 3072], pixels / 127.5 - 1, channel-major.
      labels: int64 placeholder [N], 0..9.
      is_training: bool placeholder [].
      logits: float32 [N, 10].
      probabilities: float32 [N, 10], softmax of the logits.
      hits: bool [N], whether the largest logit is the label's.
      loss: float32 [], mean softmax cross-entropy in nats.
      accuracy: float64 [], mean of hits.
      global_step: int64 variable [], steps trained.
      train_op: the op that trains one step.
      norms: the four batch normalisations in forward order.
    """

    images: Tensor
    labels: Tensor
    is_training: Tensor
    logits: Tensor
    probabilities: Tensor
    hits: Tensor
    loss: Tensor
    accuracy: Tensor
    global_step: Tensor
    train_op: Tensor
    norms: tuple[Norm, ...]


def build_alexnet(
    update_ops: UpdateOps = "control",
    fc_batch_norm: FcBatchNorm = "batch",
    learning_rate: float = 1e-3,
    *,
    kernels: Kernels = EXACT,
    optimization: Optimization = ORIGINAL,
    with_train_op: bool = True,
) -> AlexNet:
    """Builds the network, its loss and its training op in the current graph.

    Args:
      update_ops: "control" trains under a control dependency on UPDATE_OPS; "none" forgets it,
        which is the mistake this project is about.
      fc_batch_norm: "batch" is the original, whose fully connected layers normalise with the
        batch even in inference; "ema" gives them moving averages.
      learning_rate: of Adam, dimensionless.
      kernels: the ops to compute with; by default those of the original.
      optimization: how a step changes the weights; by default as the original's.
      with_train_op: False leaves train_op None, for a graph that is trained by other means.

    Returns:
      The tensors and ops to feed and fetch.

    Raises:
      ValueError: if an option is not one of those above.
    """
    _check("update_ops", update_ops, ("control", "none"))
    _check("fc_batch_norm", fc_batch_norm, ("batch", "ema"))
    images = tf.placeholder(tf.float32, [None, 3072], name="images")
    labels = tf.placeholder(tf.int64, [None], name="labels")
    is_training = tf.placeholder(tf.bool, [], name="is_training")

    logits = inference(images, is_training, fc_batch_norm, kernels)
    loss = optimization.loss(labels, logits)
    hits = tf.equal(tf.argmax(logits, 1), labels, name="hits")
    accuracy = tf.reduce_mean(tf.cast(hits, tf.float64), name="accuracy")

    global_step = tf.train.get_or_create_global_step()
    train_op = None
    if with_train_op:
        train_op = minimize(loss, global_step, update_ops, learning_rate, optimization)

    return AlexNet(
        images=images,
        labels=labels,
        is_training=is_training,
        logits=logits,
        probabilities=tf.nn.softmax(logits, name="probabilities"),
        hits=hits,
        loss=loss,
        accuracy=accuracy,
        global_step=global_step,
        train_op=train_op,
        norms=layers.norms(tf.get_default_graph()),
    )


def minimize(
    loss: Tensor,
    global_step: Tensor,
    update_ops: UpdateOps,
    learning_rate: float,
    optimization: Optimization = ORIGINAL,
) -> Tensor:
    """Builds the op that trains one step and counts it.

    Args:
      loss: float32 [], what to make small.
      global_step: int64 variable [], counted up by one.
      update_ops: see build_alexnet.
      learning_rate: of Adam, dimensionless.
      optimization: see build_alexnet.

    Returns:
      The op, named train_op.
    """
    if update_ops == "none":
        return optimization.minimize(loss, global_step, learning_rate)
    # The author's lesson. minimize() runs the gradients and nothing else: unless the update
    # ops come before it here, the moving averages that inference reads stay where they began.
    with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        return optimization.minimize(loss, global_step, learning_rate)


def inference(
    images: Tensor,
    is_training: Tensor | bool,
    fc_batch_norm: FcBatchNorm,
    kernels: Kernels = EXACT,
    replica: Replica | None = None,
) -> Tensor:
    """From pixels to logits.

    Args:
      images: float32 [N, 3072], channel-major.
      is_training: bool [] tensor, or a Python bool, which builds the one branch only.
      fc_batch_norm: see build_alexnet.
      kernels: see build_alexnet.
      replica: which copy of the network in training this is, if there are others.

    Returns:
      float32 [N, 10].
    """
    conv2d = functools.partial(layers.conv2d, kernels=kernels)
    dense = functools.partial(layers.dense, kernels=kernels)
    batch_normalization = functools.partial(layers.batch_normalization, replica=replica)

    x = tf.reshape(images, [-1, 3, 32, 32], name="channels_first")
    x = tf.transpose(x, [0, 2, 3, 1], name="channels_last")  # [N, 32, 32, 3]

    x = conv2d(x, 48, 3, activation=tf.nn.relu, name="conv1")
    x = kernels.local_response_normalization(
        x, depth_radius=4, bias=1.0, alpha=0.001 / 9.0, beta=0.75, name="norm1"
    )
    x = layers.max_pooling2d(x, 2, 2, name="pool1")  # [N, 16, 16, 48]

    x = conv2d(x, 96, 3, name="conv2")
    x = batch_normalization(x, is_training, name="batch_normalization")
    x = tf.nn.relu(x, name="relu2")
    x = layers.max_pooling2d(x, 2, 2, name="pool2")  # [N, 8, 8, 96]

    x = conv2d(x, 192, 3, activation=tf.nn.relu, name="conv3")
    x = conv2d(x, 192, 3, activation=tf.nn.relu, name="conv4")
    # A quirk of the original, kept: conv5 is rectified before its normalisation and after it.
    x = conv2d(x, 96, 3, activation=tf.nn.relu, name="conv5")
    x = batch_normalization(x, is_training, name="batch_normalization_1")
    x = tf.nn.relu(x, name="relu5")
    x = layers.max_pooling2d(x, 2, 2, name="pool5")  # [N, 4, 4, 96]

    x = layers.flatten(x, name="flatten")  # [N, 1536]
    x = tf.cast(x, tf.float32)  # bfloat16, if any, ends here; a float32 tensor passes unchanged
    for name, norm in (("dense", "batch_normal"), ("dense_1", "batch_normal_1")):
        x = dense(x, 1024, name=name)
        x = layers.batch_normal(
            x, is_training, statistics=fc_batch_norm, replica=replica, name=norm
        )
        x = tf.nn.relu(x, name=f"{name}_relu")  # [N, 1024]
    return dense(x, 10, name="dense_2")


def _check(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{option}={value!r} is not one of {', '.join(map(repr, allowed))}")
