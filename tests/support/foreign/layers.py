"""The real tf.layers, and tf_keras in a session."""

import tensorflow as tf2
import tensorflow.compat.v1 as tf

from support.foreign.pieces import (
    ALWAYS,
    BATCH,
    CLASSES,
    FORGOTTEN,
    RIGHT,
    SHAPES,
    UPDATE_OPS,
    Model,
    examples,
    inputs,
    loss_of,
    minimize,
    optimizer,
    style,
    switched,
    training_switch,
)


def layers_net(x, training, **kwargs):
    h = tf.layers.conv2d(x, 8, 3, padding="same", use_bias=False)
    h = tf.nn.relu(tf.layers.batch_normalization(h, training=training, momentum=0.9, **kwargs))
    h = tf.layers.dense(tf.layers.flatten(tf.layers.max_pooling2d(h, 2, 2)), 16)
    h = tf.nn.relu(tf.layers.batch_normalization(h, training=training, momentum=0.9))
    return tf.layers.dense(h, CLASSES)


@style("layers_conv", "image", FORGOTTEN, ALWAYS)
def layers_conv(fault):
    x, y = inputs("image")
    training, given = training_switch(fault)
    logits = layers_net(x, given)
    return switched(minimize(loss_of(y, logits), fault), logits, x, y, training)


@style("layers_dense_dropout", "vector", FORGOTTEN)
def layers_dense_dropout(fault):
    x, y = inputs("vector")
    training = tf.placeholder_with_default(False, [], name="phase")
    keep_prob = tf.placeholder(tf.float32, [], name="keep_prob")
    given = True if fault == ALWAYS else training
    h = tf.layers.dense(x, 16)
    h = tf.layers.batch_normalization(h, training=given, momentum=0.9, fused=False)
    h = tf.nn.dropout(tf.nn.relu(h), keep_prob=keep_prob)
    logits = tf.layers.dense(h, CLASSES)
    train_op = minimize(loss_of(y, logits), fault)
    return switched(train_op, logits, x, y, training, keep_prob=(0.7, 1.0))


@style("layers_channels_first", "image", FORGOTTEN)
def layers_channels_first(fault):
    x, y = inputs("image")
    training, given = training_switch(fault)
    h = tf.transpose(tf.layers.conv2d(x, 8, 3), [0, 3, 1, 2])
    h = tf.layers.batch_normalization(h, axis=1, training=given, momentum=0.9)
    h = tf.layers.batch_normalization(h, axis=1, training=given, momentum=0.9, fused=False)
    logits = tf.layers.dense(tf.layers.flatten(tf.nn.relu(h)), CLASSES)
    return switched(minimize(loss_of(y, logits), fault), logits, x, y, training)


@style("layers_queue", "vector", FORGOTTEN, ALWAYS)
def layers_queue(fault):
    """shuffle_batch feeds the training; inference feeds the tensor behind it."""
    values, labels = (tf.constant(v) for v in examples("vector", seed=1))
    x, y = tf.train.shuffle_batch([values, labels], BATCH, 200, 50, enqueue_many=True, seed=1)
    x = tf.identity(x, name="batch_x")
    training, given = training_switch(fault)
    h = tf.layers.batch_normalization(x, training=given, momentum=0.9)
    h = tf.nn.relu(tf.layers.dense(h, 16))
    h = tf.layers.batch_normalization(h, training=given, momentum=0.9)
    logits = tf.layers.dense(h, CLASSES)
    train_op = minimize(loss_of(y, logits), fault)
    return Model(train_op, logits, x, {training: True}, {training: False}, {training: True})


def renormalised(fault, **settings):
    x, y = inputs("vector")
    training = tf.placeholder(tf.bool, [], name="is_training")
    h = tf.layers.batch_normalization(
        tf.layers.dense(x, 16),
        training=training,
        momentum=0.9,
        renorm=True,
        renorm_momentum=0.9,
        **settings,
    )
    logits = tf.layers.dense(tf.nn.relu(h), CLASSES)
    return switched(minimize(loss_of(y, logits), fault), logits, x, y, training)


@style("layers_renorm", "vector", RIGHT, FORGOTTEN)
def layers_renorm(fault):
    """With narrow bounds the right one learns fast; wide ones correct what is forgotten by more."""
    narrow, wide = {"rmin": 0.7, "rmax": 1.5, "dmax": 0.5}, {"rmin": 1 / 3, "rmax": 3, "dmax": 5}
    return renormalised(fault, renorm_clipping=narrow if fault == RIGHT else wide)


@style("layers_renorm_unclipped", "vector", FORGOTTEN)
def layers_renorm_unclipped(fault):
    """Training corrects by averages that stay 0 and 1: it normalises nothing, as inference."""
    return renormalised(fault)


@style("layers_regression", "vector", FORGOTTEN)
def layers_regression(fault):
    x, y = inputs("vector")
    training, given = training_switch(fault)
    h = tf.layers.batch_normalization(tf.layers.dense(x, 16), training=given, momentum=0.9)
    h = tf.layers.batch_normalization(
        tf.layers.dense(tf.nn.relu(h), 8), training=given, momentum=0.9
    )
    output = tf.layers.dense(tf.nn.relu(h), 1, name="height")
    target = tf.cast(y, tf.float32)[:, None] * 3 - 5
    return switched(
        minimize(tf.losses.mean_squared_error(target, output), fault), output, x, y, training
    )


@style("layers_generator", "noise", FORGOTTEN, ALWAYS)
def layers_generator(fault):
    """A GAN, whose generator is what is used afterwards."""
    z = tf.placeholder(tf.float32, [None, 6], name="z")
    real = tf.placeholder(tf.float32, [None, 4], name="real")
    training, given = training_switch(fault)
    small = tf.random_normal_initializer(stddev=0.02)
    with tf.variable_scope("generator"):
        h = tf.layers.dense(z, 32, kernel_initializer=small)
        h = tf.nn.relu(tf.layers.batch_normalization(h, training=given, momentum=0.9))
        h = tf.layers.dense(h, 32, kernel_initializer=small)
        h = tf.nn.relu(tf.layers.batch_normalization(h, training=given, momentum=0.9))
        made = tf.layers.dense(h, 4, name="made")

    def judge(points):
        with tf.variable_scope("discriminator", reuse=tf.AUTO_REUSE):
            return tf.layers.dense(
                tf.layers.dense(points, 16, tf.nn.leaky_relu, name="a"), 1, name="b"
            )

    of_real, of_made = judge(real), judge(made)
    cost = tf.nn.sigmoid_cross_entropy_with_logits
    d_loss = tf.reduce_mean(
        cost(labels=tf.ones_like(of_real), logits=of_real)
        + cost(labels=tf.zeros_like(of_made), logits=of_made)
    )
    g_loss = tf.reduce_mean(cost(labels=tf.ones_like(of_made), logits=of_made))
    steps = []
    for loss, scope in ((d_loss, "discriminator"), (g_loss, "generator")):
        updates = [] if fault == FORGOTTEN else tf.get_collection(UPDATE_OPS, scope)
        with tf.control_dependencies(updates):
            steps.append(
                optimizer(beta1=0.5).minimize(
                    loss,
                    tf.train.get_or_create_global_step() if scope == "generator" else None,
                    tf.trainable_variables(scope),
                )
            )
    return switched(tf.group(*steps), made, z, real, training)


@style("keras_session", "image", FORGOTTEN, ALWAYS)
def keras_session(fault):
    """A Keras model trained by hand; its updates are in the model only."""
    keras = tf2.keras
    given = {"training": True} if fault == ALWAYS else {}
    image = keras.Input(SHAPES["image"], name="image")
    h = keras.layers.Conv2D(8, 3)(image)
    h = keras.layers.BatchNormalization(momentum=0.9)(h, **given)
    h = keras.layers.Flatten()(keras.layers.Activation("relu")(h))
    h = keras.layers.Dense(16, activation="relu")(h)
    h = keras.layers.BatchNormalization(momentum=0.9)(h, **given)
    model = keras.Model(image, keras.layers.Dense(CLASSES)(keras.layers.Dropout(0.3)(h)))
    y = tf.placeholder(tf.int64, [None], name="y")
    phase = keras.backend.learning_phase()
    train_op = minimize(loss_of(y, model.output), fault, model.updates)
    return switched(train_op, model.output, model.input, y, phase)
