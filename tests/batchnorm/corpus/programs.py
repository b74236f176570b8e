"""Corpus, part 5: whole programs, in which the audit has to choose where to look."""

from __future__ import annotations

from collections.abc import Callable
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
from corpus.single import both, network

UPDATE_OPS = tf.GraphKeys.UPDATE_OPS
Norm = Callable[[tf.Tensor, Any, str], tf.Tensor]


def fused_static(x: tf.Tensor, training: bool, name: str) -> tf.Tensor:
    """Slim's: fused on images, the switch a Python bool."""
    return _static_norm(x, training, name, fused=len(x.shape) == 4)


def trained(scope: str) -> dict[str, Any]:
    return {"var_list": [v for v in tf.trainable_variables() if v.name.startswith(scope)]}


def squared(prediction: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.square(prediction - target))


# ---- a training tower and a test tower that share variables ------------------------------------


def tower(images: tf.Tensor, training: Any, norm: Norm) -> tf.Tensor:
    x = tf.nn.relu(norm(conv(images, 6, "conv1"), training, "bn1"))
    x = tf.nn.relu(norm(dense(x, 5, "fc1"), training, "bn2"))
    return dense(x, 10, "fc2")


def two_towers(
    norm: Norm, train: Any = True, test: Any = False, before: Any = None, build: Any = tower
) -> Net:
    """Both towers with their loss and accuracy, as a TF1 script has them."""
    images, labels = inputs()
    tests = tf.placeholder(tf.float32, [None, 4, 4, 3], name="test_images")
    truth = tf.placeholder(tf.int64, [None], name="test_labels")
    loss = loss_of(labels, build(images, train, norm))
    with tf.name_scope("test"):
        logits = build(tests, test, norm)
        loss_of(truth, logits)
        tf.reduce_mean(tf.cast(tf.equal(tf.argmax(logits, 1), truth), tf.float32))
    if before is None:  # those of the training tower; there are no others with a constant
        before = [u for u in tf.get_collection(UPDATE_OPS) if not u.name.startswith("test/")]
    return Net(minimize(loss, before), logits)


@case("two towers, a constant each", layers=["bn1", "bn2"], styles=ALL_STYLES)
def tower_constants() -> Net:
    return two_towers(fused_static)


@case("two towers, a constant each, forgotten", *both("BN101"), styles=ALL_STYLES)
def tower_constants_forgotten() -> Net:
    return two_towers(fused_static, before=[])


@case("two towers, both built for training", *both("BN201", "BN203"), styles=ALL_STYLES)
def tower_constants_both_training() -> Net:
    return two_towers(fused_static, test=True)


def a_placeholder_each() -> list[tf.Tensor]:
    return [tf.placeholder(tf.bool, [], name=name) for name in ("train_phase", "valid_phase")]


@case("two towers, a placeholder each", layers=["bn1", "bn2"], styles=ALL_STYLES)
def tower_placeholders() -> Net:
    switches = a_placeholder_each()
    return two_towers(moments_norm, *switches)._replace(is_training=switches)


@case("two towers, a placeholder each, forgotten", *both("BN101"), styles=ALL_STYLES)
def tower_placeholders_forgotten() -> Net:
    switches = a_placeholder_each()
    return two_towers(moments_norm, *switches, before=[])._replace(is_training=switches)


def _template(norm: Norm) -> Any:
    """One tf.make_template, called for each tower."""

    def build(images: tf.Tensor, training: bool, _: Norm) -> tf.Tensor:
        x = tf.reshape(images, [-1, 48])
        x = tf.nn.relu(norm(dense(x, 6, "fc0"), training, "bn1"))
        return dense(norm(dense(x, 5, "fc1"), training, "bn2"), 10, "fc2")

    return tf.make_template("net", build)


def in_net(*rules: str) -> list[str]:
    return [f"{rule} net/{layer}" for layer in ("bn1", "bn2") for rule in rules]


@case("two towers of tf.make_template", layers=["net/bn1", "net/bn2"], styles=ALL_STYLES)
def template() -> Net:
    return two_towers(_static_norm, build=_template(_static_norm))


@case("two towers of tf.make_template, forgotten", *in_net("BN101"), styles=ALL_STYLES)
def template_forgotten() -> Net:
    return two_towers(_static_norm, build=_template(_static_norm), before=[])


@case("two towers, the test tower first", layers=["bn1", "bn2"])
def test_tower_first() -> Net:
    images, labels = inputs()
    with tf.name_scope("test"):
        logits = tower(images, False, fused_static)
    return Net(minimize(loss_of(labels, tower(images, True, fused_static))), logits)


@case(
    "a switch for the training tower, one layer of the test tower built for training",
    "BN201 bn2",
    "BN203 bn2",
    alone=["BN201 bn2"],  # the other tower reads the averages
)
def one_layer_of_the_test_tower() -> Net:
    images, labels = inputs()
    training = switch()

    def test_norm(x: tf.Tensor, unused: bool, name: str) -> tf.Tensor:
        return _static_norm(x, name == "bn2", name)

    loss = loss_of(labels, tower(images, training, moments_norm))
    with tf.name_scope("test"):
        logits = tower(images, False, test_norm)
    updates = [u for u in tf.get_collection(UPDATE_OPS) if not u.name.startswith("test/")]
    return Net(minimize(loss, updates), logits, training)


# ---- graphs that only train --------------------------------------------------------------------


@case("an Estimator's training graph", *both("BN201", "BN203"), alone=[])
def training_graph() -> Net:
    return network(fused_static, True)


@case(
    "an Estimator's training graph, forgotten",
    *both("BN101", "BN201", "BN203"),
    alone=both("BN101"),
)
def training_graph_forgotten() -> Net:
    return network(fused_static, True, before=[])


@case("a training graph with a frozen layer", "BN201 bn2", "BN203 bn2", alone=[])
def training_graph_frozen() -> Net:
    return network(lambda x, t, name: _static_norm(x, name == "bn2", name), True)


# ---- training steps of several operations ------------------------------------------------------


def _accumulated(updates_with: str) -> Net:
    """Gradients added up in one operation and applied in another."""
    images, labels = inputs()
    training = switch()
    logits = tower(images, training, moments_norm)
    optimizer = tf.train.AdamOptimizer(1e-3)
    pairs = optimizer.compute_gradients(loss_of(labels, logits))
    sums = [
        tf.get_variable(f"sum{k}", v.shape, initializer=tf.zeros_initializer(), trainable=False)
        for k, (_, v) in enumerate(pairs)
    ]
    updates = tf.get_collection(UPDATE_OPS)
    with tf.control_dependencies(updates if updates_with == "sum" else []):
        adds = [tf.assign_add(s, g) for s, (g, _) in zip(sums, pairs, strict=True)]
    add = tf.group(*adds, name="accumulate")
    tf.group(*[tf.assign(s, tf.zeros_like(s)) for s in sums], name="zero")
    apply = optimizer.apply_gradients(
        [(s / 4.0, v) for s, (_, v) in zip(sums, pairs, strict=True)], name="apply"
    )
    return Net([add, apply], logits, training)


@case("gradients added up over batches", layers=["bn1", "bn2"], styles=ALL_STYLES)
def accumulated() -> Net:
    return _accumulated("sum")


@case("gradients added up over batches, forgotten", *both("BN101"), styles=ALL_STYLES)
def accumulated_forgotten() -> Net:
    return _accumulated("nothing")


def _conditional_accumulator(before: Any) -> Net:
    """As SyncReplicasOptimizer: gradients go through an accumulator that is no variable."""
    images, labels = inputs()
    training = switch()
    logits = tower(images, training, moments_norm)
    optimizer = tf.train.GradientDescentOptimizer(0.1)
    with tf.control_dependencies(tf.get_collection(UPDATE_OPS) if before is None else before):
        pairs = optimizer.compute_gradients(loss_of(labels, logits))
        held = [tf.ConditionalAccumulator(tf.float32, shape=v.shape) for _, v in pairs]
        adds = [a.apply_grad(g) for a, (g, _) in zip(held, pairs, strict=True)]
    add = tf.group(*adds, name="send")
    taken = [(a.take_grad(1), v) for a, (_, v) in zip(held, pairs, strict=True)]
    return Net([add, optimizer.apply_gradients(taken, name="chief")], logits, training)


@case("gradients through conditional accumulators", styles=("resource, v2", "ref, v1"))
def accumulators() -> Net:
    return _conditional_accumulator(None)


@case("gradients through conditional accumulators, forgotten", *both("BN101"))
def accumulators_forgotten() -> Net:
    return _conditional_accumulator([])


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
