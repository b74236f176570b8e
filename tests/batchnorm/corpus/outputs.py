"""Corpus, part 6: several outputs, GANs, and what is out of reach."""

from __future__ import annotations

from typing import Any

import tensorflow.compat.v1 as tf

from corpus.cases import (
    ALL_STYLES,
    Net,
    axes_of,
    case,
    conv,
    dense,
    fused_norm,
    inputs,
    loss_of,
    minimize,
    moments_norm,
    stored,
    switch,
)
from corpus.networks import _half, _static_norm

UPDATE_OPS = tf.GraphKeys.UPDATE_OPS


def trained(scope: str) -> dict[str, Any]:
    return {"var_list": [v for v in tf.trainable_variables() if v.name.startswith(scope)]}


def squared(prediction: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.square(prediction - target))


# ---- several outputs, and outputs without a softmax --------------------------------------------


def _two_heads(value_training: Any = None) -> Net:
    """A policy and a value head on a shared trunk."""
    images, _ = inputs()
    moves = tf.placeholder(tf.float32, [None, 10], name="moves")
    result = tf.placeholder(tf.float32, [None, 1], name="result")
    training = switch()
    h = tf.nn.relu(moments_norm(conv(images, 6, "conv1"), training, "trunk"))
    policy = dense(tf.nn.relu(moments_norm(dense(h, 5, "fc1"), training, "policy")), 10, "out1")
    if value_training is None:
        v = moments_norm(dense(h, 5, "fc2"), training, "value")
    else:
        v = _static_norm(dense(h, 5, "fc2"), value_training, "value")
    value = tf.tanh(dense(tf.nn.relu(v), 1, "out2"), name="value_out")
    loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits_v2(labels=moves, logits=policy))
    return Net(minimize(loss + squared(value, result)), [policy, value], training)


def _decoder(last_training: Any = None) -> Net:
    """A convolution, a transposed one, and a picture of squashed values."""
    images, _ = inputs()
    target = tf.placeholder(tf.float32, [None, 4, 4, 1], name="target")
    training = switch()
    x = tf.nn.relu(fused_norm(conv(images, 6, "conv1"), training, "bn1"))
    kernel = tf.get_variable("up", [3, 3, 6, 6])
    shape = tf.stack([tf.shape(x)[0], *x.shape.as_list()[1:]])
    x = tf.nn.conv2d_transpose(x, kernel, shape, [1, 1, 1, 1])
    x.set_shape([None, 4, 4, 6])
    if last_training is None:
        x = fused_norm(x, training, "bn2")
    else:
        x = _static_norm(x, last_training, "bn2")
    picture = tf.sigmoid(conv(tf.nn.relu(x), 1, "out"), name="picture")
    return Net(minimize(squared(picture, target)), picture, training)


@case("a decoder of transposed convolutions", layers=["bn1", "bn2"], styles=ALL_STYLES)
def decoder() -> Net:
    return _decoder()


@case(
    "a decoder whose last layer always takes the batch", "BN201 bn2", "BN203 bn2",
    layers=["bn1", "bn2"], styles=ALL_STYLES,
)  # fmt: skip
def decoder_on_batch() -> Net:
    return _decoder(True)


@case("policy and value head", layers=["trunk", "policy", "value"], styles=ALL_STYLES)
def two_heads() -> Net:
    return _two_heads()


@case(
    "policy and value head, one built for training",
    "BN201 value",
    "BN203 value",
    styles=ALL_STYLES,
)
def two_heads_one_training() -> Net:
    return _two_heads(True)


def _regression(before: Any = None) -> Net:
    images, _ = inputs()
    target = tf.placeholder(tf.float32, [None, 2], name="target")
    training = switch()
    x = fused_norm(conv(images, 6, "conv1"), training, "bn1")
    prediction = dense(tf.nn.relu(x), 2, "fc2")
    return Net(minimize(squared(prediction, target), before), prediction, training)


@case("regression", layers=["bn1"], styles=ALL_STYLES)
def regression() -> Net:
    return _regression()


@case("regression, forgotten", "BN101 bn1", styles=ALL_STYLES)
def regression_forgotten() -> Net:
    return _regression(before=[])


def _triplets(before: Any = None) -> Net:
    """An embedding network applied to three inputs."""
    training = switch()

    def embedded(name: str) -> tf.Tensor:
        images = tf.placeholder(tf.float32, [None, 4, 4, 3], name=name)
        x = tf.nn.relu(moments_norm(conv(images, 6, "conv1"), training, "bn1"))
        return tf.nn.l2_normalize(dense(x, 5, "embed"), 1)

    anchor, same, other = (embedded(name) for name in ("anchor", "same", "other"))
    near = tf.reduce_sum(tf.square(anchor - same), 1)
    far = tf.reduce_sum(tf.square(anchor - other), 1)
    loss = tf.reduce_mean(tf.maximum(near - far + 0.2, 0.0))
    return Net(minimize(loss, before), anchor, training)


@case("triplets of embeddings", layers=["bn1"])
def triplets() -> Net:
    return _triplets()


@case("triplets of embeddings, forgotten", "BN101 bn1")
def triplets_forgotten() -> Net:
    return _triplets(before=[])


def _ends_in_norm(before: Any = None) -> Net:
    """The last layer is the normalisation itself; its cond also gives the moments."""
    images = tf.placeholder(tf.float32, [None, 4, 4, 3], name="images")
    labels = tf.placeholder(tf.int64, [None, 4, 4], name="labels")
    training = switch()
    x = fused_norm(conv(images, 10, "conv1"), training, "bn1")
    pixels = tf.reshape(x, [-1, 10])
    loss = loss_of(tf.reshape(labels, [-1]), pixels)
    return Net(minimize(loss, before), pixels, training)


@case("a network that ends in a normalisation", layers=["bn1"], styles=ALL_STYLES)
def ends_in_norm() -> Net:
    return _ends_in_norm()


@case("a network that ends in a normalisation, forgotten", "BN101 bn1", styles=ALL_STYLES)
def ends_in_norm_forgotten() -> Net:
    return _ends_in_norm(before=[])


def _deep_q(before: Any = None) -> Net:
    """A Q network and its target network, a copy that is only read."""
    training = switch()
    reward = tf.placeholder(tf.float32, [None], name="reward")
    action = tf.placeholder(tf.int32, [None], name="action")

    def q(name: str, scope: str, is_training: Any) -> tf.Tensor:
        state = tf.placeholder(tf.float32, [None, 8], name=name)
        with tf.variable_scope(scope):
            x = moments_norm(dense(state, 6, "fc1"), is_training, "bn")
            return dense(tf.nn.relu(x), 4, "out")

    values = q("state", "online", training)
    future = q("next_state", "target", tf.constant(False))
    wanted = reward + 0.99 * tf.reduce_max(tf.stop_gradient(future), 1)
    chosen = tf.reduce_sum(values * tf.one_hot(action, 4), 1)
    updates = [u for u in tf.get_collection(UPDATE_OPS) if u.name.startswith("online")]
    step = minimize(squared(chosen, wanted), updates if before is None else before)
    pairs = zip(tf.global_variables("target"), tf.global_variables("online"), strict=False)
    tf.group(*[tf.assign(new, old) for new, old in pairs], name="copy")
    return Net(step, values, training)


@case("deep Q learning with a target network")
def deep_q() -> Net:
    return _deep_q()


@case("deep Q learning, forgotten", "BN101 online/bn")
def deep_q_forgotten() -> Net:
    return _deep_q(before=[])


# ---- GANs --------------------------------------------------------------------------------------


def _dcgan(
    generator_training: Any = True,
    sampler_training: Any = False,
    forgotten: bool = False,
) -> Net:
    """The discriminator always normalises with the batch and nobody reads its averages."""
    images, _ = inputs()
    noise = tf.placeholder(tf.float32, [None, 8], name="noise")

    def generator(training: Any) -> tf.Tensor:
        norm = moments_norm if isinstance(training, tf.Tensor) else _static_norm
        x = norm(dense(noise, 12, "g/fc"), training, "g/bn")
        return tf.reshape(tf.tanh(dense(tf.nn.relu(x), 48, "g/out")), [-1, 4, 4, 3])

    def discriminator(x: tf.Tensor) -> tf.Tensor:
        x = _static_norm(conv(x, 6, "d/conv"), True, "d/bn")
        return dense(tf.nn.leaky_relu(x), 1, "d/out")

    fake = generator(generator_training)
    real_score, fake_score = discriminator(images), discriminator(fake)
    d_loss = tf.reduce_mean(tf.nn.softplus(-real_score) + tf.nn.softplus(fake_score))
    g_loss = tf.reduce_mean(tf.nn.softplus(-fake_score))
    d_step = minimize(d_loss, [], name="d_step", **trained("d/"))
    updates = [] if forgotten else _half("g/")
    g_step = minimize(g_loss, updates, name="g_step", **trained("g/"))
    sample = fake
    if sampler_training is not None:
        with tf.name_scope("sampler"):
            sample = tf.identity(generator(sampler_training), name="sample")
    is_switch = isinstance(generator_training, tf.Tensor)
    return Net([d_step, g_step], sample, generator_training if is_switch else None)


@case("DCGAN: nobody reads the discriminator's averages", layers=["g/bn", "d/bn"])
def dcgan() -> Net:
    return _dcgan()


@case("DCGAN: the generator's updates forgotten", "BN101 g/bn")
def dcgan_forgotten() -> Net:
    return _dcgan(forgotten=True)


@case("DCGAN: the sampler is built for training", "BN201 g/bn", "BN203 g/bn")
def dcgan_sampler() -> Net:
    return _dcgan(sampler_training=True)


@case("DCGAN: a switch for the generator alone")
def dcgan_switch() -> Net:
    return _dcgan(switch(), None)


@case("DCGAN: a switch for the generator alone, forgotten", "BN101 g/bn")
def dcgan_switch_forgotten() -> Net:
    return _dcgan(switch(), None, forgotten=True)


def _switched_critic(sampler_training: bool) -> Net:
    """The discriminator has a switch; the generator has a tower for each mode."""
    images, _ = inputs()
    noise = tf.placeholder(tf.float32, [None, 8], name="noise")
    training = switch()

    def generator(is_training: bool) -> tf.Tensor:
        x = _static_norm(dense(noise, 12, "g/fc"), is_training, "g/bn")
        return tf.reshape(tf.tanh(dense(x, 48, "g/out")), [-1, 4, 4, 3])

    def discriminator(x: tf.Tensor) -> tf.Tensor:
        return dense(moments_norm(conv(x, 6, "d/conv"), training, "d/bn"), 1, "d/out")

    real_score, fake_score = discriminator(images), discriminator(generator(True))
    d_loss = squared(real_score, 1.0) + squared(fake_score, 0.0)
    d_step = minimize(d_loss, _half("d/"), name="d_step", **trained("d/"))
    g_step = minimize(squared(fake_score, 1.0), _half("g/"), name="g_step", **trained("g/"))
    with tf.name_scope("sampler"):
        return Net([d_step, g_step], generator(sampler_training), training)


@case("GAN: a training tower of the generator before a discriminator with a switch")
def switched_critic() -> Net:
    return _switched_critic(False)


@case("GAN: the same, the sampler built for training", "BN201 g/bn", "BN203 g/bn")
def switched_critic_sampler() -> Net:
    return _switched_critic(True)


# ---- what is out of reach ----------------------------------------------------------------------


def _two_stages(before: Any = None) -> Net:
    """A second network with a switch of its own, trained elsewhere."""
    images, labels = inputs()
    logits = {}
    for stage in ("stage1", "stage2"):
        training = tf.placeholder(tf.bool, [], name=f"{stage}_training")
        with tf.variable_scope(stage):
            x = moments_norm(conv(images, 6, "conv"), training, "bn")
            logits[stage] = dense(tf.nn.relu(x), 10, "out")
    updates = _half("stage2") if before is None else before
    step = minimize(loss_of(labels, logits["stage2"]), updates, **trained("stage2"))
    return Net(step, logits["stage2"], "stage2_training")


@case("a second network with a switch of its own", styles=ALL_STYLES)
def two_stages() -> Net:
    return _two_stages()


@case("a second network with a switch of its own, forgotten", "BN101 stage2/bn")
def two_stages_forgotten() -> Net:
    return _two_stages(before=[])


# ---- loops that fetch more than the training op ------------------------------------------------


@case("a loss that waits for the updates, fetched beside the training op", alone=["BN101 bn1"])
def loss_fetched() -> Net:
    images, labels = inputs()
    training = switch()
    logits = dense(moments_norm(conv(images, 6, "conv1"), training, "bn1"), 10, "fc2")
    step = minimize(loss_of(labels, logits), [])
    with tf.control_dependencies(tf.get_collection(UPDATE_OPS)):
        loss = tf.identity(loss_of(labels, logits), name="loss_with_updates")
    return Net([step, loss], logits, training)


# ---- no averages -------------------------------------------------------------------------------


@case("moments only, no switch", "BN201 bn1", styles=("resource, v2", "ref, v1"))
def moments_only() -> Net:
    images, labels = inputs()
    x = conv(images, 6, "conv1")
    with tf.variable_scope("bn1"):
        kept = stored(6)
        mean, variance = tf.nn.moments(x, axes_of(x))
        x = tf.nn.batch_normalization(x, mean, variance, kept.beta, kept.gamma, 1e-3)
    logits = dense(tf.nn.relu(x), 10, "fc2")
    return Net(minimize(loss_of(labels, logits)), logits)


@case("a step that also moves the other network's averages")
def step_moves_the_other() -> Net:
    """The discriminator's step runs all updates; every average is still updated."""
    images, _ = inputs()
    noise = tf.placeholder(tf.float32, [None, 8], name="noise")
    training = switch()
    fake = dense(moments_norm(dense(noise, 12, "g/fc"), training, "g/bn"), 48, "g/out")

    def discriminator(x: tf.Tensor) -> tf.Tensor:
        return dense(moments_norm(dense(x, 6, "d/fc"), training, "d/bn"), 1, "d/out")

    real_score, fake_score = discriminator(images), discriminator(fake)
    d_step = minimize(squared(real_score, 1.0) + squared(fake_score, 0.0), None, name="d_step",
                      **trained("d/"))  # fmt: skip
    g_step = minimize(squared(fake_score, 1.0), _half("g/"), name="g_step", **trained("g/"))
    return Net([d_step, g_step], fake, training)
