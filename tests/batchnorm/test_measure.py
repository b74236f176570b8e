"""The measuring of a gap, on made-up models."""

import numpy as np
import pytest

from alexnet_tf1.batchnorm import measure as measuring
from alexnet_tf1.batchnorm.measure import Judge

LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0])
LOGITS = np.eye(3)[LABELS]


def test_a_sweep_finds_no_difference_in_a_model_in_order():
    outputs = np.where(np.arange(10)[:, None] % 5 > 0, LOGITS, -LOGITS)  # 2 of 10 are wrong
    judge = Judge(outputs, LABELS)
    cells = measuring.sweep({"inference": lambda rows: outputs[rows]}, judge)
    assert {cell.accuracy for cell in cells} == {0.8}
    assert {cell.distance for cell in cells} == {0.0}
    assert {cell.batch_size for cell in cells} == {1, 2, 5, 10}  # 20 and more: all ten
    assert {cell.order for cell in cells} == {"stored", "sorted"}


def test_a_sweep_finds_a_model_that_looks_at_the_rest_of_the_batch():
    def compute(rows):  # right only where the batch holds more than one class
        return LOGITS[rows] if len(set(LABELS[rows])) > 1 else np.roll(LOGITS[rows], 1, axis=1)

    cells = measuring.sweep({"inference": compute}, Judge(LOGITS, LABELS), [1, 2, 5])
    assert measuring.cell_at(cells, "inference", 1, "stored").accuracy == 0
    assert measuring.cell_at(cells, "inference", 2, "stored").accuracy == 1
    assert measuring.cell_at(cells, "inference", 2, "sorted").accuracy == 0.2
    assert measuring.cell_at(cells, "inference", 2, "stored").distance == 0
    assert measuring.cell_at(cells, "inference", 2, "sorted").distance > 1
    with pytest.raises(KeyError):
        measuring.cell_at(cells, "inference", 7, "stored")


def test_without_labels_the_order_is_by_the_output_that_varies_most():
    outputs = np.array([[3.0, 0.1], [1.0, 0.3], [2.0, 0.2]])
    judge = Judge(outputs)
    assert judge.order.tolist() == [1, 2, 0]
    assert judge.accuracy(outputs) is None


@pytest.mark.parametrize("shape", [[4], [4, 1]])
def test_a_single_output_is_judged_by_its_sign_or_as_a_probability(shape):
    labels = np.array([0, 1, 1, 0])
    logits = np.array([-2.0, 0.2, 3.0, 0.3]).reshape(shape)
    assert Judge(logits, labels).accuracy(logits) == 0.75
    assert Judge(logits, labels, probability=True).accuracy(logits) == 0.75
    assert Judge(logits, labels, probability=True).accuracy(logits * 3) == 0.75
    assert Judge(logits, labels, probability=True).accuracy(logits + 0.35) == 0.75


def test_distance_is_relative_to_the_spread_of_the_reference():
    reference = np.array([[0.0, 10.0], [2.0, 14.0]])  # deviations 1 and 2
    assert Judge(reference).distance(reference + 1) == pytest.approx(1 / np.sqrt(2.5))
    assert Judge(1e6 * reference).distance(1e6 * (reference + 1)) == pytest.approx(1 / np.sqrt(2.5))
    constant = np.ones([3, 1])
    assert Judge(constant).distance(constant) == 0
    assert Judge(constant).distance(constant + 7) == 1
    assert np.isfinite(Judge(reference).distance(reference * np.nan))  # JSON has no NaN


@pytest.mark.parametrize("batch_size", [1, 3, 10, 99])
def test_every_row_is_computed_once_and_lands_in_its_place(batch_size):
    seen = []
    rows = np.array([3, 1, 2, 0, 9, 8, 7, 6, 5, 4])

    def compute(part):
        seen.extend(part)
        return part * 10

    outputs = measuring.compute_all(compute, rows, batch_size)
    assert sorted(seen) == list(range(10))
    assert outputs.tolist() == list(range(0, 100, 10))


@pytest.mark.parametrize("writes", [False, True])
def test_side_effects_are_found(writes):
    variables = {"a": np.ones(2), "b": np.ones(2)}

    def compute(rows):
        variables["b"] = variables["b"] + writes
        return np.full(len(rows), variables["b"][0])

    effects = measuring.side_effects(lambda: dict(variables), compute, np.arange(1), 1)
    assert effects == measuring.SideEffects(not writes, ["b"] if writes else [])


def test_distance_is_in_standard_deviations_and_ratios():
    mean, variance = np.array([1.0, 2.0, 3.0]), np.array([4.0, 4.0, 4.0])
    assert measuring.distance(mean, variance, mean, variance, 0) == (0, 1)
    assert measuring.distance(mean - 1, variance / 2, mean, variance, 0) == (0.5, 2)
    assert measuring.distance(mean + 1, variance * 2, mean, variance, 0) == (0.5, 2)
