"""What several test files share."""

import gc
import os
from pathlib import Path

import numpy as np
import pytest
from support.longest import LONG

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # the tests compare bits on the CPU
if "PYTEST_XDIST_WORKER" in os.environ:
    # The workers fill the cores; threads of each for all of them would wait for work, spinning.
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

STEPS, BATCH = 60, 20
LAYER_SHAPES = {  # inputs, outputs, trainable weights of the layers that the oracle builds
    "conv2d": ([5, 8, 8, 6], [5, 8, 8, 7], [[3, 3, 6, 7], [7]]),
    "dense": ([5, 13], [5, 11], [[13, 11], [11]]),
    "max_pooling2d": ([5, 9, 9, 6], [5, 4, 4, 6], []),
    "flatten": ([5, 4, 4, 6], [5, 96], []),
    "batch_normalization": ([5, 8, 8, 6], [5, 8, 8, 6], [[6], [6]]),
}

TESTS = Path(__file__).parent


def pytest_collection_modifyitems(items):
    places = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(str(item.path.relative_to(TESTS)), len(LONG)))


def pytest_collection_finish():
    # Else each full collection walks all that TensorFlow made when it was imported: building a
    # graph takes a seventh longer.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000)


@pytest.fixture(scope="session")
def given():
    """Inputs and weights for both sides of the comparison with the real tf.layers."""
    import tensorflow.compat.v1 as tf

    from alexnet_tf1 import build_alexnet

    random = np.random.RandomState(0)
    arrays = {}
    for name, (inputs, outputs, weights) in LAYER_SHAPES.items():
        arrays[f"layers/{name}/inputs"] = random.normal(0.3, 2, inputs).astype(np.float32)
        arrays[f"layers/{name}/cotangent"] = random.normal(size=outputs).astype(np.float32)
        for number, shape in enumerate(weights):
            value = random.normal(0.5, 1, shape).astype(np.float32)
            arrays[f"layers/{name}/weights/{number}"] = value
    arrays["pixels"] = random.randint(0, 256, [STEPS, BATCH, 3072]).astype(np.uint8)
    arrays["labels"] = random.randint(0, 10, [STEPS, BATCH])
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(7)
        build_alexnet()
        session.run(tf.global_variables_initializer())
        for number, variable in enumerate(tf.trainable_variables()):
            arrays[f"weights/{number}"] = session.run(variable)
    return arrays


@pytest.fixture(scope="session")
def oracle(given, tmp_path_factory):
    """What the real tf.compat.v1.layers make of `given`."""
    from support import legacy_keras
    from support.shared import once

    def ask(folder):
        folder.mkdir()
        np.savez(folder / "given.npz", **given)
        script = TESTS / "support" / "oracle.py"
        legacy_keras.run(script, folder / "given.npz", folder / "found.npz")

    return dict(np.load(once(tmp_path_factory, "oracle", ask) / "found.npz"))
