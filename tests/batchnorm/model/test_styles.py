"""Other people's models, measured and repaired; judged by their own graphs in plain sessions."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from support import legacy_keras
from support.foreign.train import STYLES
from support.shared import once

from alexnet_tf1.batchnorm.model.diagnose import diagnose_model
from alexnet_tf1.batchnorm.model.feeds import Examples
from alexnet_tf1.batchnorm.model.repair import recalibrate_model

TESTS = Path(__file__).parents[2]
WHOLE = 512  # examples
BY_HAND = ("ema_cond", "ema_zero_debias", "pop_assigns", "slim_in_branches")  # first layer: dense
UNLABELLED = ("layers_generator", "layers_regression")
NO_GAP = "layers_renorm_unclipped"  # forgetting its updates does no harm


def styles(fault, *, labelled=True):
    return [
        style.name
        for style in STYLES
        if fault in style.faults
        and (style.name not in UNLABELLED) == labelled
        and style.name != NO_GAP
    ]


class Theirs:
    """A model that the style's own program left behind."""

    def __init__(self, folder, name):
        entry = json.loads((folder / "models.json").read_text())[name]
        self.prefix, self.logits, self.input = (
            entry[key] for key in ("prefix", "logits", "examples")
        )
        self._entry = entry
        self.x, self.y = (np.load(folder / f"{entry['kind']}_{letter}.npy") for letter in "xy")

    def examples(self, count=WHOLE):
        constants = {k: v for k, v in self._entry["inference"].items() if v is not False}
        return Examples({self.input: self.x[:count]}, constants, count)

    @property
    def naming(self):
        return {"logits": self.logits} if "generator" in self.logits else {}

    def outputs(self, prefix, *, batch_statistics=False, size=32, rows=None, tensor=None):
        """The answers of the model's own graph, with this checkpoint and its own switch."""
        feed = self._entry["batch_mode" if batch_statistics else "inference"]
        x = self.x if rows is None else self.x[rows]
        with tf.Graph().as_default(), tf.Session() as session:
            tf.train.import_meta_graph(f"{prefix}.meta").restore(session, prefix)
            for variable in tf.global_variables():
                if variable.name == self._entry["switch"]:
                    variable.load(batch_statistics, session)
            return np.concatenate(
                [
                    session.run(
                        tensor or self.logits, {self.input: x[start : start + size], **(feed or {})}
                    )
                    for start in range(0, len(x), size)
                ]
            )

    def accuracy(self, prefix, **kwargs):
        return 100 * (self.outputs(prefix, **kwargs).argmax(1) == self.y).mean()


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """Gives a model by name, from those that were trained once."""
    if importlib.util.find_spec("tf_slim") is None:
        pytest.skip("their layers need tf_slim; pip install '.[test]'")

    def train(folder):
        folder.mkdir()
        legacy_keras.run(TESTS / "support" / "foreign" / "train.py", folder)

    folder = once(tmp_path_factory, "foreign", train)
    return lambda style, fault: Theirs(folder, f"{style}/{fault}")


def values(prefix):
    reader = tf.train.load_checkpoint(prefix)
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def assert_only_averages_changed(model, new, found):
    averages = {name for layer in found["layers"] for name in layer["moving_averages"]}
    assert averages
    before, after = values(model.prefix), values(new)
    assert before.keys() == after.keys()
    changed = {n for n in before if before[n].tobytes() != after[n].tobytes()}
    deviations = {name for name in before if name.endswith("/moving_stddev")}  # renorm's
    assert averages & changed
    assert changed <= averages | deviations
    for name in deviations:  # of which training makes the variance
        variance = after[name.replace("stddev", "variance")]
        np.testing.assert_allclose(np.square(after[name]) - 1e-3, variance, rtol=1e-5)


@pytest.mark.parametrize("style", styles("forgotten"))
def test_a_forgotten_update_is_repaired_and_nothing_else_changes(theirs, tmp_path, style):
    model = theirs(style, "forgotten")
    is_switched = style != "slim_towers"
    batch = model.accuracy(model.prefix, batch_statistics=True) if is_switched else 99
    assert batch > 90
    assert batch - model.accuracy(model.prefix) > 20
    new = str(tmp_path / "repaired")
    found = recalibrate_model(model.prefix, model.examples(), out=new, **model.naming)
    assert batch - model.accuracy(new) < 3
    if style in BY_HAND:
        inputs = model.outputs(model.prefix, tensor="BiasAdd:0")
        averages = [values(new)[name] for name in found["layers"][0]["moving_averages"]]
        np.testing.assert_allclose(averages, [inputs.mean(0), inputs.var(0)], rtol=1e-3)
    assert_only_averages_changed(model, new, found)


def test_statistics_that_training_never_normalised_with_are_not_put_in(theirs, tmp_path):
    """Batch renormalisation without bounds: x_hat * r + d is x itself, as long as nothing moves."""
    model = theirs(NO_GAP, "forgotten")
    new = str(tmp_path / "again")
    found = diagnose_model(model.prefix, model.examples(128), labels=model.y[:128])
    assert abs(found["gap_points"]) < 6
    recalibrate_model(model.prefix, model.examples(), out=new)
    assert abs(model.accuracy(new) - model.accuracy(model.prefix)) < 1


@pytest.mark.parametrize("style", styles("forgotten", labelled=False))
def test_outputs_without_classes_are_repaired(theirs, tmp_path, style):
    model = theirs(style, "forgotten")
    wanted = model.outputs(model.prefix, batch_statistics=True, size=WHOLE)
    new = str(tmp_path / "repaired")
    recalibrate_model(model.prefix, model.examples(), out=new, **model.naming)

    def distance(prefix):
        return np.sqrt(np.square(model.outputs(prefix) - wanted).mean() / wanted.var(0).mean())

    assert distance(model.prefix) > 0.5
    assert distance(new) < 0.05
    if style == "layers_regression":
        assert diagnosed_distance(model, model.prefix) > 0.5
        assert diagnosed_distance(model, new) < 0.2  # estimated from fewer examples


def diagnosed_distance(model, prefix):
    found = diagnose_model(prefix, model.examples(100), **model.naming)
    assert found["gap_points"] is None
    (cell,) = (
        cell
        for cell in found["cells"]
        if (cell["mode"], cell["order"], cell["batch_size"]) == ("inference", "stored", 100)
    )
    return cell["distance"]


@pytest.mark.parametrize("style", [*styles("always"), *styles("always", labelled=False)])
def test_one_example_is_judged_as_in_a_batch(theirs, tmp_path, style):
    model = theirs(style, "always")
    folder = str(tmp_path / "served")
    recalibrate_model(model.prefix, model.examples(), saved_model=folder, **model.naming)
    with tf.Graph().as_default() as graph, tf.Session() as session:
        meta = tf.saved_model.load(session, ["serve"], folder)
        signature = meta.signature_def["serving_default"]
        (given,) = (tensor.name for tensor in signature.inputs.values())
        (answer,) = (tensor.name for tensor in signature.outputs.values())
        kinds = {op.type for op in graph.get_operations()}
        whole = session.run(answer, {given: model.x})
        one = np.concatenate([session.run(answer, {given: model.x[k : k + 1]}) for k in range(20)])
    assert not [kind for kind in kinds if kind.startswith(("Var", "Apply", "Assign"))]
    np.testing.assert_allclose(one, whole[:20], rtol=1e-3, atol=1e-3 * whole.std())
    if style != "layers_queue":  # whose graph takes 32 examples
        alone = model.outputs(model.prefix, size=1, rows=range(20))
        assert np.abs(alone - one).max() > 0.3 * whole.std()
    if style in UNLABELLED:
        batch = model.outputs(model.prefix, size=WHOLE)
        np.testing.assert_allclose(whole, batch, atol=0.05 * batch.std())
    else:
        accuracy = 100 * (whole.argmax(1) == model.y).mean()
        assert model.accuracy(model.prefix) - accuracy < 3


@pytest.mark.parametrize("style", styles("right"))
def test_a_right_model_is_in_order_and_does_not_get_worse(theirs, tmp_path, style):
    model = theirs(style, "right")
    found = diagnose_model(model.prefix, model.examples(128), labels=model.y[:128], **model.naming)
    assert found["faults"] == []
    assert abs(found["gap_points"]) < 3
    new = str(tmp_path / "again")
    recalibrate_model(model.prefix, model.examples(), out=new, **model.naming)
    assert model.accuracy(new) > model.accuracy(model.prefix) - 1
