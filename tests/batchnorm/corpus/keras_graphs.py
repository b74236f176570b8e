"""Writes graphs of the real tf.layers and tf_keras layers for the audit's tests.

Run as a program, in a process of its own (TF_USE_LEGACY_KERAS=1): one MetaGraph a case
into the folder named on the command line, and cases.json with what to expect of each. The word
after the folder: "both" builds each case in both generations of control flow, "one" in one, by
turns.
"""

from __future__ import annotations

import json
import pathlib
import sys
import warnings
from collections.abc import Callable
from typing import Any

import tensorflow as tf2
import tensorflow.compat.v1 as tf

Expectation = dict[str, Any]
CASES: list[tuple[str, Callable[[], Expectation]]] = []
UPDATE_OPS = tf.GraphKeys.UPDATE_OPS


def case(name: str) -> Callable[[Callable[[], Expectation]], Callable[[], Expectation]]:
    def register(build: Callable[[], Expectation]) -> Callable[[], Expectation]:
        CASES.append((name, build))
        return build

    return register


def expect(
    train: Any,
    logits: Any,
    training: Any,
    *faults: str,
    layers: int = 2,
    alone: list[str] | None = None,
) -> Expectation:
    """What to find; `alone` where nothing is named, if that is something else."""
    train = train if isinstance(train, list) else [train]
    return {
        "train_ops": [op.name for op in train],
        "logits": logits.name,
        "is_training": None if training is None else training.name,
        "expects": list(faults),
        "alone": list(faults) if alone is None else alone,
        "layers": layers,
    }


NAMES = ("batch_normalization", "batch_normalization_1")


def every(*rules: str) -> list[str]:
    return [f"{rule} {name}" for name in NAMES for rule in rules]


def layers_network(training: Any, before: Any = None, **kwargs: Any) -> tuple[Any, Any]:
    """tf.layers throughout: conv, norm, dense, norm, dense."""
    images = tf.placeholder(tf.float32, [None, 8, 8, 3], "images")
    labels = tf.placeholder(tf.int64, [None], "labels")
    x = tf.layers.conv2d(images, 6, 3, padding="same")
    x = tf.nn.relu(tf.layers.batch_normalization(x, training=training, **kwargs))
    x = tf.layers.dense(tf.layers.flatten(x), 7)
    kwargs.pop("fused", None)
    x = tf.nn.relu(tf.layers.batch_normalization(x, training=training, **kwargs))
    logits = tf.layers.dense(x, 10)
    loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
    with tf.control_dependencies(tf.get_collection(UPDATE_OPS) if before is None else before):
        train = tf.train.AdamOptimizer().minimize(loss)
    return train, logits


def switch() -> Any:
    return tf.placeholder(tf.bool, [], "is_training")


for _fused in (True, False):
    for _renorm in (False, True):
        _text = f"tf.layers, fused={_fused}" + (", renorm" if _renorm else "")
        _kwargs = {"renorm": True} if _renorm else {"fused": _fused}
        if _renorm and not _fused:
            continue

        def _right(kwargs: Any = _kwargs) -> Expectation:
            training = switch()
            return expect(*layers_network(training, **kwargs), training)

        def _forgotten(kwargs: Any = _kwargs) -> Expectation:
            training = switch()
            return expect(*layers_network(training, [], **kwargs), training, *every("BN101"))

        case(f"{_text}: right")(_right)
        case(f"{_text}: forgotten")(_forgotten)


@case("tf.layers, virtual batches: right")
def virtual() -> Expectation:
    training = switch()
    return expect(*layers_network(training, virtual_batch_size=4, fused=False), training)


@case("tf.layers, training=True in the inference graph")
def hard_true() -> Expectation:
    return expect(*layers_network(True), None, *every("BN201", "BN203"), alone=[])


@case("tf.layers, training= forgotten")
def hard_false() -> Expectation:
    return expect(*layers_network(False), None, *every("BN103"))


@case("tf.layers, no scale, no centre: forgotten")
def bare() -> Expectation:
    training = switch()
    built = layers_network(training, [], scale=False, center=False)
    return expect(*built, training, *every("BN101"))


@case("tf.layers, placeholder_with_default: forgotten")
def with_default() -> Expectation:
    training = tf.placeholder_with_default(False, [], "is_training")
    return expect(*layers_network(training, []), training, *every("BN101"))


@case("tf.layers, channels first")
def channels_first() -> Expectation:
    training = switch()
    images = tf.placeholder(tf.float32, [None, 3, 8, 8], "images")
    x = tf.layers.batch_normalization(images, axis=1, training=training, fused=False)
    x = tf.layers.batch_normalization(x, axis=1, training=training)
    logits = tf.layers.dense(tf.layers.flatten(x), 10)
    with tf.control_dependencies(tf.get_collection(UPDATE_OPS)):
        train = tf.train.GradientDescentOptimizer(0.1).minimize(tf.reduce_mean(logits**2))
    return expect(train, logits, training)


def keras_network(training: Any, trainable: bool = True) -> tuple[Any, Any, list[Any]]:
    keras = tf2.keras
    images = tf.placeholder(tf.float32, [None, 8, 8, 3], "images")
    labels = tf.placeholder(tf.int64, [None], "labels")
    layers = [keras.layers.BatchNormalization(), keras.layers.BatchNormalization()]
    for layer in layers:
        layer.trainable = trainable
    x = keras.layers.Conv2D(6, 3)(images)
    x = keras.layers.Dense(7)(keras.layers.Flatten()(layers[0](x, training=training)))
    logits = keras.layers.Dense(10)(tf.nn.relu(layers[1](x, training=training)))
    loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
    updates = [update for layer in layers for update in layer.updates]
    return loss, logits, updates


@case("tf_keras layers, updates grouped: right")
def keras_right() -> Expectation:
    training = switch()
    loss, logits, updates = keras_network(training)
    train = tf.group(tf.train.AdamOptimizer().minimize(loss), *updates)
    return expect(train, logits, training)


@case("tf_keras layers, updates forgotten")
def keras_forgotten() -> Expectation:
    training = switch()
    loss, logits, _ = keras_network(training)
    train = tf.train.AdamOptimizer().minimize(loss)
    return expect(train, logits, training, *every("BN101"))


@case("tf_keras layers, trainable=False, the weights before them trained")
def keras_frozen() -> Expectation:
    training = switch()
    loss, logits, _ = keras_network(training, trainable=False)
    train = tf.train.AdamOptimizer().minimize(loss)
    return expect(train, logits, training, *every("BN103"))


@case("tf_keras model with the learning phase, compiled")
def keras_model() -> Expectation:
    keras = tf2.keras
    model = keras.Sequential(
        [
            keras.layers.Conv2D(6, 3, input_shape=(8, 8, 3)),
            keras.layers.BatchNormalization(),
            keras.layers.LayerNormalization(),
            keras.layers.Flatten(),
            keras.layers.Dense(7, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(10),
        ]
    )
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model._make_train_function()
    phase = tf.get_default_graph().get_tensor_by_name("keras_learning_phase:0")
    return expect(model.train_function.updates_op, model.output, phase)


@case("tf_keras layer and group normalisation: no layer")
def others() -> Expectation:
    keras = tf2.keras
    images = tf.placeholder(tf.float32, [None, 8, 8, 4], "images")
    x = keras.layers.LayerNormalization()(images)
    x = keras.layers.LayerNormalization(axis=[1, 2, 3])(x)
    x = keras.layers.GroupNormalization(2)(x)
    x = keras.layers.UnitNormalization()(x)
    logits = keras.layers.Dense(10)(keras.layers.Flatten()(x))
    train = tf.train.GradientDescentOptimizer(0.1).minimize(tf.reduce_mean(logits**2))
    return expect(train, logits, None, layers=0)


@case("tf_keras SyncBatchNormalization: forgotten")
def synchronised() -> Expectation:
    training = switch()
    images = tf.placeholder(tf.float32, [None, 8, 8, 4], "images")
    layer = tf2.keras.layers.BatchNormalization(synchronized=True, name="sync")
    logits = tf2.keras.layers.Dense(10)(layer(images, training=training))
    train = tf.train.GradientDescentOptimizer(0.1).minimize(tf.reduce_mean(logits**2))
    return expect(train, logits, training, "BN101 sync", layers=1)


# ---- a training tower and a test tower that share variables -----------------------------------


def two_towers(build: Callable[[Any, bool], Any], updates: Callable[[Any], list[Any]]) -> Any:
    """Trains one call of the network and tests another; both have a loss."""
    images, tests = (tf.placeholder(tf.float32, [None, 8, 8, 3], n) for n in ("images", "tests"))
    labels, truth = (tf.placeholder(tf.int64, [None], n) for n in ("labels", "truth"))
    loss = tf.losses.sparse_softmax_cross_entropy(labels, build(images, True))
    logits = build(tests, False)
    tf.losses.sparse_softmax_cross_entropy(truth, logits)
    with tf.control_dependencies(updates(images)):
        return expect(tf.train.AdamOptimizer().minimize(loss), logits, None)


def shared_layers(images: Any, training: bool, test: bool = False) -> Any:
    """tf.layers under `reuse`, as TF1 scripts have them."""
    with tf.variable_scope("net", reuse=tf.AUTO_REUSE):
        x = tf.layers.conv2d(images, 6, 3, name="conv")
        training = training or test
        x = tf.nn.relu(tf.layers.batch_normalization(x, training=training, name="bn1"))
        x = tf.layers.dense(tf.layers.flatten(x), 7, name="fc1")
        x = tf.layers.batch_normalization(x, training=training, name="bn2")
        return tf.layers.dense(tf.nn.relu(x), 10, name="fc2")


def in_net(*rules: str) -> list[str]:
    return [f"{rule} net/{name}" for name in ("bn1", "bn2") for rule in rules]


@case("tf.layers, two towers by reuse: right")
def layers_towers() -> Expectation:
    return two_towers(shared_layers, lambda _: tf.get_collection(UPDATE_OPS))


@case("tf.layers, two towers by reuse: forgotten")
def layers_towers_forgotten() -> Expectation:
    faults = in_net("BN101")
    return {**two_towers(shared_layers, lambda _: []), "expects": faults, "alone": faults}


@case("tf.layers, two towers by reuse: both for training")
def layers_towers_both() -> Expectation:
    faults = in_net("BN201", "BN203")
    built = two_towers(
        lambda images, training: shared_layers(images, training, test=True),
        lambda _: tf.get_collection(UPDATE_OPS),
    )
    return {**built, "expects": faults, "alone": faults}


def keras_towers(updates: bool) -> Expectation:
    """A Keras model called twice; the updates are those of the call on the training images."""
    keras = tf2.keras
    image = keras.Input([8, 8, 3])
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(6, 3)(image))
    x = keras.layers.Dense(7, activation="relu")(keras.layers.Flatten()(x))
    model = keras.Model(image, keras.layers.Dense(10)(keras.layers.BatchNormalization()(x)))
    return two_towers(
        lambda images, training: model(images, training=training),
        lambda images: model.get_updates_for([images]) if updates else [],
    )


@case("tf_keras model called twice: right")
def keras_model_twice() -> Expectation:
    return keras_towers(True)


@case("tf_keras model called twice: forgotten")
def keras_model_twice_forgotten() -> Expectation:
    return {**keras_towers(False), "expects": every("BN101"), "alone": every("BN101")}


def main() -> None:
    folder = pathlib.Path(sys.argv[1])
    written = {}
    for k, (name, build) in enumerate(CASES):
        for v2 in (True, False) if sys.argv[2] == "both" else (k // 2 % 2 == 0,):
            (tf.enable_control_flow_v2 if v2 else tf.disable_control_flow_v2)()
            tf2.keras.backend.clear_session()
            with tf.Graph().as_default(), tf.Session():
                expectation = build()
                path = folder / f"{k}_{int(v2)}.meta"
                tf.train.export_meta_graph(str(path))
            label = f"{name} ({'v2' if v2 else 'v1'} control flow)"
            written[label] = {"path": path.name, **expectation}
    (folder / "cases.json").write_text(json.dumps(written, indent=1))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    tf.disable_eager_execution()
    main()
