"""Corpus, part 4: functions, loops and forms met in the wild."""

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
    ema_norm,
    fused_norm,
    inputs,
    loss_of,
    minimize,
    moments_norm,
    moving,
    stored,
    switch,
)
from corpus.single import both, network, only_4d

# ---- functions and loops -----------------------------------------------------------------------


@case("forward pass in a tf.function called in the graph")
def in_function() -> Net:
    return _in_function(True)


@case("forward pass in a tf.function, updates in the wrong branch", *both("BN101", "BN202"))
def in_function_wrong() -> Net:
    return _in_function(False)


def _in_function(right: bool) -> Net:
    images, labels = inputs()
    training = switch()
    shapes = {"bn1": 6, "bn2": 5}
    kept, kernels = {}, {}
    for name, size in shapes.items():
        with tf.variable_scope(name):
            kept[name] = stored(size)
    kernels["bn1"] = tf.get_variable("kernel1", [3, 3, 3, 6])
    kernels["bn2"] = tf.get_variable("kernel2", [3, 3, 6, 5])

    @tf.function
    def forward(x: tf.Tensor, on: tf.Tensor) -> tf.Tensor:
        for name in shapes:
            x = tf.nn.conv2d(x, kernels[name], strides=1, padding="SAME")
            store = kept[name]
            mean, variance = tf.nn.moments(x, [0, 1, 2])
            wanted = on if right else tf.logical_not(on)

            def update(store: Any = store, mean: Any = mean, variance: Any = variance) -> Any:
                moving(store.mean, mean)
                moving(store.variance, variance)
                return 0

            tf.cond(wanted, update, lambda: 0)
            mean = tf.where(on, mean, store.mean)
            variance = tf.where(on, variance, store.variance)
            x = tf.nn.batch_normalization(x, mean, variance, store.beta, store.gamma, 1e-3)
        return x

    logits = dense(forward(images, training), 10, "fc2")
    return Net(minimize(loss_of(labels, logits), []), logits, training)


@case("the training op runs in a while loop", styles=("resource, v1",))
def in_while_v1() -> Net:
    return _in_while(True)


@case(
    "the training op runs in a while loop, updates forgotten",
    "BN101 bn1",
    styles=("resource, v1",),
)
def in_while_v1_forgotten() -> Net:
    return _in_while(False)


@case("the training op runs in a v2 while loop")
def in_while_v2() -> Net:
    return _in_while(True)


@case("the training op runs in a v2 while loop, updates in the wrong branch", "BN101 bn1")
def in_while_v2_wrong() -> Net:
    return _in_while(True, wrong=True)


def _in_while(updates: bool, wrong: bool = False) -> Net:
    """Steps of hand-written gradient descent, a few at a time."""
    images, labels = inputs()
    training = switch()
    with tf.variable_scope("bn1"):
        kept = stored(48)
    kernel = tf.get_variable("kernel", [48, 10])
    flat = tf.reshape(images, [-1, 48])

    def forward(on: Any, update: bool) -> tf.Tensor:
        mean, variance = tf.nn.moments(flat, [0])
        wait: list[Any] = []
        if update:
            taken = tf.logical_not(on) if wrong else on
            momentum = tf.where(taken, 0.9, 1.0)
            wait = [moving(kept.mean, mean, momentum), moving(kept.variance, variance, momentum)]
        mean = tf.where(on, mean, kept.mean)
        variance = tf.where(on, variance, kept.variance)
        x = tf.nn.batch_normalization(flat, mean, variance, kept.beta, kept.gamma, 1e-3)
        with tf.control_dependencies(wait):
            return tf.matmul(x, kernel)

    def step(count: tf.Tensor) -> tf.Tensor:
        loss = loss_of(labels, forward(training, updates))
        (gradient,) = tf.gradients(loss, [kernel])
        with tf.control_dependencies([tf.assign_sub(kernel, 0.1 * gradient)]):
            return count + 1

    if not updates:  # the updates exist, outside of what is run
        mean, variance = tf.nn.moments(flat, [0])
        moving(kept.mean, mean)
        moving(kept.variance, variance)
    train = tf.while_loop(lambda count: count < 5, step, [tf.constant(0)])
    return Net(train, forward(training, False), training)


@case("hand-written EMA and fused layers together, only the latter forgotten", "BN101 bn2")
def mixed() -> Net:
    images, labels = inputs()
    training = switch()
    x = ema_norm(conv(images, 6, "conv1"), training, "bn1")
    x = fused_norm(conv(x, 5, "conv2"), training, "bn2")
    logits = dense(x, 10, "fc2")
    return Net(minimize(loss_of(labels, logits), []), logits, training)


# ---- recurrent networks ------------------------------------------------------------------------


def _recurrent(form: str) -> Net:
    """Normalises inside the loop over time; `form` says when it updates, and where."""
    training = switch()
    sequence = tf.placeholder(tf.float32, [None, 5, 8])
    labels = tf.placeholder(tf.int64, [None])
    with tf.variable_scope("bn1"):
        kept = stored(8)
    kernel = tf.get_variable("kernel", [8, 8])
    steps = tf.TensorArray(tf.float32, 5).unstack(tf.transpose(sequence, [1, 0, 2]))

    def update(mean: tf.Tensor, variance: tf.Tensor) -> list[Any]:
        return [moving(kept.mean, mean), moving(kept.variance, variance)]

    def body(step: tf.Tensor, state: tf.Tensor) -> Any:
        z = tf.matmul(steps.read(step) + state, kernel)
        mean, variance = tf.nn.moments(z, [0])

        def train() -> Any:
            with tf.control_dependencies(update(mean, variance) if form == "gated" else []):
                return tf.identity(mean), tf.identity(variance)

        wait = update(mean, variance) if form == "always" else []
        with tf.control_dependencies(wait):
            used = tf.cond(
                training, train, lambda: (tf.identity(kept.mean), tf.identity(kept.variance))
            )
        return step + 1, tf.tanh(tf.nn.batch_normalization(z, *used, kept.beta, kept.gamma, 1e-3))

    start = [tf.constant(0), tf.zeros_like(sequence[:, 0, :])]
    _, state = tf.while_loop(lambda step, _: step < 5, body, start)
    if form == "outside":
        update(*tf.nn.moments(tf.matmul(sequence[:, 0, :], kernel), [0]))
    logits = dense(state, 10, "fc2")
    return Net(minimize(loss_of(labels, logits), []), logits, training)


LOOPS = ("resource, v2", "resource, v1")
case("in a recurrent loop, updated at each step of training", styles=LOOPS)(
    lambda: _recurrent("gated")
)
case("in a recurrent loop, updated in inference too", "BN202 bn1", styles=LOOPS)(
    lambda: _recurrent("always")
)
case("in a recurrent loop, its updates outside forgotten", "BN101 bn1", styles=LOOPS)(
    lambda: _recurrent("outside")
)
case("in a recurrent loop, never updated", "BN102 bn1", styles=LOOPS)(lambda: _recurrent("none"))


# ---- forms met in the wild -----------------------------------------------------------------------


def _deep(before: Any = None) -> Net:
    """Residual and dense connections; two norms on each other; one input for two norms."""
    images, labels = inputs()
    training = switch()
    x = conv(images, 6, "conv")
    for k in range(3):
        y = moments_norm(moments_norm(x, training, f"first{k}"), training, f"second{k}")
        x = tf.concat([x + y, tf.nn.relu(fused_norm(x, training, f"third{k}"))], -1)
    logits = dense(x, 10, "fc2")
    return Net(minimize(loss_of(labels, logits), before), logits, training)


@case("residual, dense, stacked")
def deep() -> Net:
    return _deep()


@case(
    "residual, dense, stacked, forgotten",
    *(f"BN101 {name}{k}" for name in ("first", "second", "third") for k in range(3)),
)
def deep_forgotten() -> Net:
    return _deep([])


def _per_device(before: Any = None) -> Net:
    """Moments averaged over two devices' halves, as synchronised batch norm does."""
    images, labels = inputs()
    training = switch()
    halves = [conv(images, 6, "conv"), conv(tf.reverse(images, [1]), 6, "conv")]
    with tf.variable_scope("bn1"):
        kept = stored(6)
    mean = tf.add_n([tf.reduce_mean(x, [0, 1, 2]) for x in halves]) / 2
    squares = tf.reduce_mean(tf.stack([tf.reduce_mean(x * x, [0, 1, 2]) for x in halves]), 0)
    variance = squares - tf.square(mean)
    for variable, value in ((kept.mean, mean), (kept.variance, variance)):
        tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, moving(variable, value))
    mean = tf.where(training, mean, kept.mean)
    variance = tf.where(training, variance, kept.variance)
    logits = [
        dense(tf.nn.batch_normalization(x, mean, variance, kept.beta, kept.gamma, 1e-3), 10, "fc2")
        for x in halves
    ]
    loss = loss_of(labels, logits[0]) + loss_of(labels, logits[1])
    return Net(minimize(loss, before), logits[0], training)


@case("moments averaged over devices", layers=["bn1"])
def per_device() -> Net:
    return _per_device()


@case("moments averaged over devices, forgotten", "BN101 bn1", layers=["bn1"])
def per_device_forgotten() -> Net:
    return _per_device([])


def _kept_otherwise(form: str) -> Callable[[tf.Tensor, Any, str], tf.Tensor]:
    """Averages of other things than mean and variance, kept in other ways."""

    def norm(x: tf.Tensor, training: Any, name: str) -> tf.Tensor:
        axes, channels = axes_of(x), int(x.shape[-1])
        with tf.variable_scope(name):
            kept = stored(channels, ("first", "second"))
            mean, variance = tf.nn.moments(x, axes)
            now: Any = (mean, variance)
            then: Any = (tf.identity(kept.mean), tf.identity(kept.variance))
            writes = []
            if form == "deviation":
                momentum = tf.placeholder_with_default(0.9, [])
                now = (mean, tf.math.reduce_std(x, axes))
                writes = [moving(v, n, momentum) for v, n in zip(kept[:2], now, strict=True)]
            elif form == "sums":
                seen = tf.get_variable("seen", [], trainable=False)
                count = tf.cast(tf.size(x) // channels, tf.float32)
                total, squares = tf.reduce_sum(x, axes), tf.reduce_sum(tf.square(x), axes)
                pairs = ((kept.mean, total), (kept.variance, squares), (seen, count))
                writes = [tf.assign_add(v, n) for v, n in pairs]
                average = kept.mean / seen
                then = (average, kept.variance / seen - tf.square(average))
            elif form == "increments":
                writes = [
                    tf.assign_add(v, 0.1 * (n - v)) for v, n in zip(kept[:2], now, strict=True)
                ]
            for write in writes:
                tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, write)
            used = [tf.where(training, n, t) for n, t in zip(now, then, strict=True)]
            scale = used[1] + 1e-3 if form == "deviation" else tf.sqrt(used[1] + 1e-3)
            return (x - used[0]) / scale * kept.gamma + kept.beta

    return norm


for _form in ("deviation", "sums", "increments"):
    case(f"averages kept as {_form}: right", styles=ALL_STYLES)(
        lambda form=_form: network(_kept_otherwise(form), switch())
    )
    case(f"averages kept as {_form}: forgotten", *both("BN101"), styles=ALL_STYLES)(
        lambda form=_form: network(_kept_otherwise(form), switch(), before=[])
    )


@case("fused, no update at all", *both("BN102"), styles=ALL_STYLES)
def fused_no_update() -> Net:
    def bare(x: tf.Tensor, training: Any, name: str) -> tf.Tensor:
        with tf.variable_scope(name):
            kept = stored(int(x.shape[-1]))
            fused = tf.nn.fused_batch_norm
            return tf.cond(
                training,
                lambda: fused(x, kept.gamma, kept.beta)[0],
                lambda: fused(
                    x, kept.gamma, kept.beta, kept.mean, kept.variance, is_training=False
                )[0],
            )

    return only_4d(bare, switch())


def _kernel_average(gated: bool) -> Callable[[tf.Tensor, Any, str], tf.Tensor]:
    """The fused kernel blends the averages itself (exponential_avg_factor)."""

    def norm(x: tf.Tensor, training: Any, name: str) -> tf.Tensor:
        with tf.variable_scope(name):
            kept = stored(int(x.shape[-1]))

        def train() -> tf.Tensor:
            y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
                x=x,
                scale=kept.gamma,
                offset=kept.beta,
                mean=kept.mean,
                variance=kept.variance,
                exponential_avg_factor=0.1,
                is_training=True,
            )
            with tf.control_dependencies(
                [tf.assign(kept.mean, mean), tf.assign(kept.variance, variance)]
            ):
                return tf.identity(y)

        def infer() -> tf.Tensor:
            return tf.nn.fused_batch_norm(
                x, kept.gamma, kept.beta, kept.mean, kept.variance, is_training=False
            )[0]

        return tf.cond(training, train, infer) if gated else train()

    return norm


@case("averages blended by the fused kernel")
def kernel_average() -> Net:
    return only_4d(_kernel_average(True), switch())


@case("averages blended by the fused kernel, always", *both("BN201", "BN202", "BN203"))
def kernel_average_always() -> Net:
    return only_4d(_kernel_average(False), switch())


@case(
    "a target network with its own layers, copied",
    "BN101 online/bn",
    layers=["online/bn", "target/bn"],
)
def target_network() -> Net:
    images, labels = inputs()
    training = switch()

    def values(scope: str) -> tf.Tensor:
        with tf.variable_scope(scope):
            return dense(moments_norm(conv(images, 6, "conv"), training, "bn"), 10, "fc2")

    online, target = values("online"), values("target")
    pairs = zip(
        *(
            [v for v in tf.global_variables() if v.op.name.startswith(s)]
            for s in ("online", "target")
        ),
        strict=True,
    )
    copy = tf.group(*[tf.assign(b, 0.9 * b + 0.1 * a) for a, b in pairs])
    loss = loss_of(labels, online) + tf.reduce_mean(tf.square(online - tf.stop_gradient(target)))
    return Net([minimize(loss, []), copy], online, training)


@case("batch statistics in the loss and as a feature", layers=["bn1", "standardised"])
def elsewhere() -> Net:
    images, labels = inputs()
    training = switch()
    x = moments_norm(conv(images, 6, "conv1"), training, "bn1")
    spread = tf.math.reduce_std(x, 0)  # a GAN's measure of variety
    spread = tf.tile(tf.reshape(tf.reduce_mean(spread), [1, 1, 1, 1]), [tf.shape(x)[0], 4, 4, 1])
    logits = dense(tf.concat([x, spread], -1), 10, "fc2")
    with tf.name_scope("standardised"):
        mean, variance = tf.nn.moments(logits, [0])
        z = (logits - mean) / tf.sqrt(variance + 1e-4)
    decorrelation = tf.reduce_sum(tf.square(tf.matmul(z, z, transpose_a=True)))
    return Net(minimize(loss_of(labels, logits) + decorrelation), logits, training)
