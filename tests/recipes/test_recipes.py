"""The recipes: their settings reach the graph and the data, and the original does not notice."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from support.loops import Recorder
from support.small_set import TINY

from alexnet_tf1.alexnet import build_alexnet, build_for_testing, cross_entropy
from alexnet_tf1.batchnorm.audit import audit_graph
from alexnet_tf1.checkpoint.reader import Checkpoint
from alexnet_tf1.cli import output
from alexnet_tf1.cli.arguments import parser
from alexnet_tf1.config import TrainConfig
from alexnet_tf1.data import synthetic
from alexnet_tf1.data.batches import SCALED, Batches
from alexnet_tf1.data.dataset import Split
from alexnet_tf1.fast import train as fast
from alexnet_tf1.gap.both_modes import flip_accuracy
from alexnet_tf1.recipes.augment import Augmentation, augmentation_for
from alexnet_tf1.recipes.kernels import passing_on, whitening_kernel
from alexnet_tf1.recipes.optimizer import Muon, one_cycle, optimizer_for, orthogonalised
from alexnet_tf1.recipes.presets import RECIPES, settings_from
from alexnet_tf1.runs.network import build_network
from alexnet_tf1.supervisor.run import run_training

BETTER = ("quick", "best")


@pytest.fixture
def images():
    return np.random.RandomState(0).randint(0, 256, [7, 3072]).astype(np.uint8)


def in_a_run(config, split, part=slice(None)):
    """The batches of a run."""
    return Batches(split, config.seed, augmentation_for(config, len(split.labels)), part)


# ---- settings --------------------------------------------------------------------------------


def test_without_a_recipe_every_setting_is_the_original_s():
    assert settings_from({}) == TrainConfig() == settings_from({"recipe": "original"})


@pytest.mark.parametrize("recipe", BETTER)
def test_each_setting_of_a_recipe_gives_way_to_its_option(recipe):
    config = settings_from({"recipe": recipe})
    differing = {
        field.name
        for field in dataclasses.fields(config)
        if getattr(config, field.name) != field.default
    }
    assert differing == {"recipe", *RECIPES[recipe]}, "an entry that changes nothing"
    for name in RECIPES[recipe]:
        default = getattr(TrainConfig(), name)
        changed = settings_from({"recipe": recipe, name: default})
        assert changed == dataclasses.replace(config, **{name: default})


def test_options_of_the_command_line_go_before_the_recipe():
    line = ["train", "--recipe", "best", "--no-flip", "--no-fast", "--precision", "float32"]
    given = vars(parser().parse_args(line))
    others = ("command", "debug", "resume", "quiet")
    config = settings_from({name: value for name, value in given.items() if name not in others})
    assert (config.flip, config.fast, config.precision) == (False, False, "float32")
    assert config.optimizer == "muon"


# ---- the graph -------------------------------------------------------------------------------


def test_the_original_s_graph_has_not_an_op_more():
    graphs = []
    for build in (build_alexnet, lambda: build_network(settings_from({}))):
        with tf.Graph().as_default() as graph:
            tf.set_random_seed(0)
            build()
            graphs.append([(n.name, n.op, list(n.input)) for n in graph.as_graph_def().node])
    assert graphs[0] == graphs[1]
    adam = [op for op in graph.get_operations() if op.type == "ResourceApplyAdam"]
    rates = {float(tf.get_static_value(op.inputs[5])) for op in adam}
    assert len(adam) == 24
    assert rates == {float(np.float32(1e-3))}
    assert "softmax_cross_entropy_with_logits" not in {name for name, _, _ in graphs[0]}


@pytest.mark.parametrize("recipe", BETTER)
def test_a_recipe_trains_the_same_24_variables(recipe):
    shapes = []
    for config in (TrainConfig(), settings_from({"recipe": recipe})):
        with tf.Graph().as_default():
            build_network(config)
            shapes.append({v.op.name: v.shape.as_list() for v in tf.trainable_variables()})
    assert shapes[0] == shapes[1]
    assert len(shapes[0]) == 24


@pytest.mark.parametrize("recipe", BETTER)
@pytest.mark.parametrize("update_ops", ["control", "none"])
def test_the_audit_finds_a_recipe_s_graph_right_and_its_twin_wrong(recipe, update_ops):
    config = settings_from({"recipe": recipe, "update_ops": update_ops})
    with tf.Graph().as_default() as graph:
        net = build_for_testing("ema")
        loop = fast.build_loop(config, Recorder(optimizer_for(config)))
        report = audit_graph(graph, [loop.train_op], net.logits, net.is_training)
    assert [f.rule for f in report.faults] == ([] if update_ops == "control" else ["BN101"] * 4)


@pytest.mark.parametrize("warmup", [0.0, 0.25, 0.6])
def test_the_rate_rises_and_falls_in_lines(warmup):
    with tf.Graph().as_default(), tf.Session() as session:
        step = tf.train.get_or_create_global_step()
        rate = one_cycle(0.5, 99, warmup)
        rates = []
        for taken in range(99):
            session.run(step.initializer, {step.initializer.inputs[1]: taken})
            rates.append(session.run(rate))
    top = 100 * warmup
    expected = [0.5 * (s / top if s < top else (100 - s) / (100 - top)) for s in range(1, 100)]
    np.testing.assert_allclose(rates, expected, rtol=1e-5)


def steps_taken(config, begin, gradients):
    """Values of conv1/kernel-like, conv2/kernel and bias after steps along given gradients."""
    with tf.Graph().as_default(), tf.Session() as session:
        step = tf.train.get_or_create_global_step()
        names = ("conv1/kernel", "conv2/kernel", "conv2/bias")
        variables = [tf.get_variable(n, initializer=begin[n]) for n in names]
        along = [tf.placeholder(tf.float32, v.shape) for v in variables]
        loss = tf.add_n([tf.reduce_sum(a * v) for a, v in zip(along, variables, strict=True)])
        train_op = optimizer_for(config).minimize(loss, step)
        session.run(tf.global_variables_initializer())
        for gradient in gradients:
            session.run(train_op, {a: gradient[n] for a, n in zip(along, names, strict=True)})
        assert session.run(step) == len(gradients)
        return dict(zip(names, session.run(variables), strict=True))


def test_muon_takes_the_kernels_but_the_first_and_adam_the_rest():
    random = np.random.RandomState(3)
    shapes = {"conv1/kernel": [3, 3, 3, 8], "conv2/kernel": [3, 3, 4, 8], "conv2/bias": [8]}

    def draw():
        return {n: random.normal(size=s).astype(np.float32) for n, s in shapes.items()}

    begin, gradients = draw(), [draw() for _ in range(3)]
    plain = steps_taken(TrainConfig(), begin, gradients)
    found = steps_taken(TrainConfig(optimizer="muon", muon_rate=0.02), begin, gradients)
    for name in ("conv1/kernel", "conv2/bias"):
        np.testing.assert_array_equal(found[name], plain[name])
    momentum, expected = 0, begin["conv2/kernel"].astype(np.float64)
    for gradient in (g["conv2/kernel"].astype(np.float64) for g in gradients):
        momentum = Muon.MOMENTUM * momentum + gradient
        direction = (gradient + Muon.MOMENTUM * momentum).reshape(36, 8)
        left, values, right = np.linalg.svd(direction, full_matrices=False)
        values /= np.linalg.norm(values)
        for _ in range(3):  # what the iteration does to each singular value
            values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
        expected = expected - 0.02 * (left * values @ right).reshape(3, 3, 4, 8)
    np.testing.assert_allclose(found["conv2/kernel"], expected, atol=2e-5)


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_a_prepared_conv1_is_spared_and_the_rest_is_trained_as_before(optimizer):
    random = np.random.RandomState(3)
    shapes = {"conv1/kernel": [3, 3, 3, 8], "conv2/kernel": [3, 3, 4, 8], "conv2/bias": [8]}
    begin, *gradients = (
        {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
        for _ in range(3)
    )
    trained, spared = (
        steps_taken(TrainConfig(optimizer=optimizer, kernels=kernels), begin, gradients)
        for kernels in ("random", "prepared")
    )
    np.testing.assert_array_equal(spared["conv1/kernel"], begin["conv1/kernel"])
    assert not np.array_equal(trained["conv1/kernel"], begin["conv1/kernel"])
    for name in ("conv2/kernel", "conv2/bias"):
        np.testing.assert_array_equal(spared[name], trained[name])


def test_the_whitening_kernel_makes_outputs_of_variance_1_that_are_uncorrelated():
    random = np.random.RandomState(0)
    # Smooth images, whose neighbouring pixels and colours are nearly alike, as in photographs.
    rough = random.normal(size=[400, 1, 40, 40]) + 0.5 * random.normal(size=[400, 3, 40, 40])
    smooth = sum(rough[..., y : y + 32, x : x + 32] for y in range(4) for x in range(4))
    images = np.clip(128 + 10 * smooth, 0, 255).astype(np.uint8).reshape(400, 3072)
    kernel = whitening_kernel(images, 12)
    with tf.Graph().as_default(), tf.Session() as session:
        planes = SCALED[images].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        outputs = session.run(tf.nn.conv2d(planes, kernel, 1, "VALID")).reshape(-1, 12)
    np.testing.assert_array_equal(outputs[:, 6:], -outputs[:, :6])
    products = outputs[:, :6].T @ outputs[:, :6] / len(outputs)
    np.testing.assert_allclose(products, np.eye(6), atol=0.06)


def test_a_kernel_that_passes_on_shows_its_inputs_first():
    random = np.random.RandomState(0)
    inputs = random.normal(size=[1, 5, 5, 4]).astype(np.float32)
    for filters in (6, 4, 3):
        kernel = random.normal(size=[3, 3, 4, filters]).astype(np.float32)
        with tf.Graph().as_default(), tf.Session() as session:
            both = [passing_on(kernel), kernel]
            new, old = session.run([tf.nn.conv2d(inputs, k, 1, "SAME") for k in both])
        passed = min(4, filters)
        np.testing.assert_array_equal(new[..., :passed], inputs[..., :passed])
        np.testing.assert_array_equal(new[..., passed:], old[..., passed:])


def test_a_run_with_prepared_kernels_keeps_its_first_layer(tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic, "generate", TINY)
    folder = tmp_path / "run"
    settings = {
        "dataset": "synthetic", "kernels": "prepared", "batch_size": 4, "test_batches": 1,
        "run_dir": str(folder),
    }  # fmt: skip
    run_training(TrainConfig(steps=2, **settings))
    run_training(TrainConfig(steps=4, **settings), resume=True)
    checkpoint = Checkpoint(folder)
    expected = whitening_kernel(TINY().train.images, 48)
    np.testing.assert_array_equal(checkpoint.read("conv1/kernel"), expected)
    assert not checkpoint.read("conv1/bias").any()
    assert checkpoint.read("conv2/bias").any()
    assert "conv1/kernel/Adam" not in checkpoint.variables


def test_orthogonalised_brings_singular_values_near_1_and_keeps_their_vectors():
    random = np.random.RandomState(4)
    matrix = random.normal(size=[64, 16]).astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
        found, nothing = session.run(
            [orthogonalised(tf.constant(100 * matrix)), orthogonalised(tf.zeros([64, 16]))]
        )
    values = np.linalg.svd(found, compute_uv=False)
    assert values.min() > 0.65
    assert values.max() < 1.25
    left, _, right = np.linalg.svd(matrix, full_matrices=False)
    turned = left.T @ found @ right.T  # diagonal if the singular vectors are the same
    np.testing.assert_allclose(turned - np.diag(np.diag(turned)), 0, atol=1e-3)
    assert not nothing.any()


def test_label_smoothing_is_the_cross_entropy_with_spread_labels():
    logits = np.random.RandomState(5).normal(size=[6, 10]).astype(np.float32)
    labels = np.array([0, 9, 3, 3, 1, 7])
    with tf.Graph().as_default(), tf.Session() as session:
        losses = [
            session.run(cross_entropy(tf.constant(labels), tf.constant(logits), part))
            for part in (0.0, 0.1)
        ]
    logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    right, spread = -logs[np.arange(6), labels].mean(), -logs.mean()
    np.testing.assert_allclose(losses, [right, 0.9 * right + 0.1 * spread], rtol=1e-5)


# ---- the images ------------------------------------------------------------------------------


def test_a_flip_is_its_own_inverse_and_each_image_changes_sides_with_each_epoch(images):
    rows = np.arange(7)
    change = Augmentation(3, 7, flip=True)
    epochs = [change.apply(images.copy(), rows, epoch, 0) for epoch in (1, 2, 3)]
    mirrored = images.reshape(-1, 3, 32, 32)[..., ::-1].reshape(-1, 3072)
    sides = [(epoch == images).all(1) for epoch in epochs]
    for epoch, side in zip(epochs, sides, strict=True):
        np.testing.assert_array_equal(epoch, np.where(side[:, None], images, mirrored))
    assert 0 < sides[0].sum() < 7, "all on one side"
    np.testing.assert_array_equal(sides[0], ~sides[1])
    np.testing.assert_array_equal(epochs[0], epochs[2])
    np.testing.assert_array_equal(change.apply(epochs[0].copy(), rows, 1, 0), images)


def test_an_image_moves_by_at_most_the_shift_and_shows_itself_mirrored_at_the_edge(images):
    change = Augmentation(0, 7, shift=2)
    rows, seen = np.arange(7), set()
    for place in range(20):
        moved = change.apply(images.copy(), rows, 1, place).reshape(-1, 3, 32, 32)
        for image, result in zip(images.reshape(-1, 3, 32, 32), moved, strict=True):
            wider = np.pad(image, [(0, 0), (2, 2), (2, 2)], mode="reflect")
            cut = {(y, x): wider[:, y : y + 32, x : x + 32] for y in range(5) for x in range(5)}
            (at,) = [at for at, window in cut.items() if (window == result).all()]
            seen.add(at)
    assert seen == {(y, x) for y in range(5) for x in range(5)}


@pytest.mark.parametrize("taken", [0, 1, 3, 4])
def test_a_resumed_run_changes_images_as_the_whole_one(images, taken):
    config = TrainConfig(flip=True, shift=3, seed=4)
    split = Split(images, np.arange(7))
    whole, resumed = in_a_run(config, split), in_a_run(config, split)
    for _ in range(taken):
        whole.next_pixels(3)
    resumed.skip(taken, 3)
    for _ in range(5):
        for ours, theirs in zip(resumed.next_pixels(3), whole.next_pixels(3), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_workers_share_out_the_same_changed_images(images):
    config, split = TrainConfig(flip=True, shift=3), Split(images, np.arange(7))
    whole = in_a_run(config, split)
    parts = [in_a_run(config, split, part) for part in (slice(0, 3), slice(3, 6))]
    for _ in range(4):
        pixels, labels = whole.next_pixels(6)
        shared = [part.next_pixels(6) for part in parts]
        np.testing.assert_array_equal(np.concatenate([s[0] for s in shared]), pixels)
        np.testing.assert_array_equal(np.concatenate([s[1] for s in shared]), labels)


def test_labels_stay_with_their_images_and_the_set_is_left_alone(images):
    split = Split(images.copy(), np.arange(7))
    changed = Batches(split, 1, Augmentation(1, 7, flip=True, shift=2))
    plain = Batches(split, 1)
    for _ in range(4):
        pixels, labels = changed.next_batch(3)
        others, same = plain.next_batch(3)
        np.testing.assert_array_equal(labels, same)
        assert pixels.dtype == others.dtype == np.float32
        assert (pixels != others).any()
    np.testing.assert_array_equal(split.images, images)


def test_no_augmentation_is_the_original_s_batch(images):
    split = Split(images, np.arange(7))
    pixels, labels = in_a_run(TrainConfig(), split).next_batch(7)
    np.testing.assert_array_equal(pixels, SCALED[images[labels]])


def test_the_accuracy_with_mirror_images_is_of_mean_probabilities():
    """Two classes; the model sees the top left pixel only, red 0 to 255 for 0 to 1."""

    class Session:
        def run(self, fetched, feed):
            asked.append((fetched, feed["is_training"]))
            sure = (feed["images"][:, 0] + 1) / 2
            return np.stack([1 - sure, sure], axis=1)

    asked, counted = [], []
    net = SimpleNamespace(images="images", is_training="is_training", probabilities="probabilities")
    pixels = np.zeros([3, 3, 32, 32], np.uint8)
    # Top left and top right: by itself the first is class 1, with its mirror image class 0.
    pixels[:, 0, 0, 0], pixels[:, 0, 0, 31] = [200, 200, 50], [0, 200, 250]
    split = Split(pixels.reshape(3, 3072), np.array([0, 1, 1]))
    assert flip_accuracy(Session(), net, split, 2, after_batch=counted.append) == 1.0
    wrong = split._replace(labels=np.array([1, 1, 0]))  # what the images alone would be taken for
    assert flip_accuracy(Session(), net, wrong, 2, after_batch=counted.append) == pytest.approx(
        1 / 3
    )
    assert set(asked) == {("probabilities", False)}
    assert counted == [4, 2, 4, 2]  # images, of both sides


def test_the_report_says_that_mirror_images_were_used():
    found = {
        "checkpoint": "c", "dataset": {"test_images": 4, "name": "synthetic"}, "batch_size": 2,
        "test_accuracy_full": 0.5, "batch_statistics_accuracy_full": 0.5, "gap_points": 0.0,
        "run": "r",
    }  # fmt: skip
    assert "mirror" not in output.evaluation(found)
    assert output.evaluation({**found, "flip_accuracy_full": 0.75}).endswith(
        "with mirror images, two passes each: 75.00%"
    )
