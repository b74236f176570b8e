"""The sentences of a diagnosis: what is wrong, in which layer, what to do, and no more."""

from __future__ import annotations

import pytest

from alexnet_tf1.batchnorm.model.verdict import Remedies, verdict

REMEDIES = Remedies("`mend it`", update="train otherwise", alone="make it stand alone")
MODES = ("batch statistics", "inference", "precise")
OFF, FIT = (2.0, 3.0), (0.01, 1.02)


def found(read, faults=(), layers=None, key="accuracy", **more):
    """A diagnosis: `read` gives a reading for each (mode, order, size); layers, their distances."""
    return {
        "examples": 1000,
        "batch_size": 20,
        "cells": [
            {"accuracy": None, "distance": 0.0, "mode": mode, "order": order, "batch_size": size}
            | {key: read(mode, order, size)}
            for mode in MODES
            for order in ("stored", "sorted")
            for size in (1, 20, 1000)
        ],
        "faults": [{"rule": r, "layer": n, "message": f"{n} is at fault"} for r, n in faults],
        "layers": [
            {"name": name, "mean_distance": mean, "variance_distance": variance}
            for name, (mean, variance) in (layers or {"bn": FIT}).items()
        ],
        "changed_variables": [],
        "repeatable": True,
        **more,
    }


def modes(batch, inference, precise):
    by_mode = dict(zip(MODES, (batch, inference, precise), strict=True))
    return lambda mode, order, size: by_mode[mode]


def by_batch(mode, order, size):
    if mode != "inference":
        return 0.7 if mode == "precise" else 0.69
    return {1: 0.1, 20: 0.66 if order == "stored" else 0.2, 1000: 0.7}[size]


RIGHT = found(modes(0.7, 0.7, 0.71))
FORGOTTEN = modes(0.7, 0.5, 0.71)


@pytest.mark.parametrize(
    ("diagnosis", "parts"),
    [
        (RIGHT, ["In order: 70.0% in inference", "averages fit"]),
        (found(modes(0.7, 0.7, 0.7), layers={"bn": (None, None)}), ["In order: 70.0%"]),
        *(
            (
                found(FORGOTTEN, [(rule, "bn")], {"bn": OFF}),
                ["never updated the moving averages of bn", "50.0% in inference", "70.0% with b",
                 "71.0% with precise", "Mend this checkpoint with `mend it`; train otherwise."],
            )
            for rule in ("BN101", "BN102", "CK101")
        ),
        (
            found(FORGOTTEN, [("BN101", "a"), ("CK101", "a"), ("BN101", "b")],
                  {"a": OFF, "b": OFF}),
            ["moving averages of a and b, and"],
        ),
        (
            found(modes(0.7, 0.7, 0.7), [("BN101", "bn")]),
            ["never updates", "recalibrated, or updated in another way. Train otherwise."],
        ),
        (
            found(FORGOTTEN, [("CK102", "bn")], {"bn": OFF}),
            ["lacks the moving averages of bn", "50.0%", "tf.train.Saver()"],
        ),
        (
            found(modes(0.3, 0.7, 0.3), [("BN103", "bn"), ("CK101", "bn")], {"bn": OFF}),
            ["bn normalises with stored averages in training too", "recalibrating would not help",
             "training=is_training", "train again"],
        ),
        (
            found(FORGOTTEN, layers={"bn": OFF}),
            ["far from the statistics of these examples", "Mend this checkpoint with `mend it`"],
        ),
        (
            found(modes(0.3, 0.7, 0.3), layers={"bn": OFF}),
            ["Recalibrating would not mend this checkpoint (30.0% instead of 70.0%)."],
        ),
        *(
            (
                found(by_batch, [(rule, "a"), (rule, "b")]),
                ["a and b normalise with the test batch", "66.0% in mixed batches of 20",
                 "20.0% sorted by class", "10.0% one at a time", "Make it stand alone."],
            )
            for rule in ("BN201", "BN203")
        ),
        (
            found(by_batch, [("CK101", "bn"), ("BN201", "bn"), ("BN101", "bn")], {"bn": OFF}),
            ["bn normalises with the test batch"],  # and reads no averages
        ),
        (
            found(by_batch),
            ["depend on the rest of the batch", "10.0% to 70.0%", "no fault that is known"],
        ),
        (found(FORGOTTEN), ["precise statistics differ", "50.0%", "no fault that is known"]),
        (found(modes(0.7, 0.7, 0.7), [("BN301", "bn")]), ["BN301: bn is at fault."]),
        (RIGHT | {"changed_variables": ["bn/mean"]}, ["Evaluating changed bn/mean"]),
        (RIGHT | {"repeatable": False}, ["two answers"]),
        (RIGHT | {"layers": []}, ["No batch normalisation was found"]),
        (
            RIGHT | {"left_out": ["BN101 was not checked", "b keeps its own statistics"]},
            ["in what could be checked; BN101 was not checked; b keeps its own statistics."],
        ),
    ],
)  # fmt: skip
def test_the_verdict_names_layer_figures_and_remedy(diagnosis, parts):
    sentences = verdict(diagnosis, REMEDIES)
    assert len(sentences) == 1
    for part in parts:
        assert part in sentences[0]
    assert ("In order" in sentences[0]) == (parts[0][:8] == "In order")


def by_batch_apart(mode, order, size):
    if mode != "inference":
        return 0.0 if mode == "precise" else 0.1
    return {1: 1.5, 20: 0.2 if order == "stored" else 0.9, 1000: 0.03}[size]


@pytest.mark.parametrize(
    ("diagnosis", "parts"),
    [
        (
            found(modes(0.2, 0.01, 0), key="distance"),
            ["In order: in inference the outputs lie 0.01 of their spread away"],
        ),
        (
            found(modes(0.2, 1.7e308, 0), [("BN101", "bn")], {"bn": OFF}, "distance"),
            ["in inference the outputs lie 1.7e+308 of their spread away from those with precise "
             "statistics, with batch statistics 0.20", "`mend it`"],
        ),
        (
            found(by_batch_apart, [("BN201", "bn")], key="distance"),
            ["0.20 of their spread away", "0.90 in sorted ones, 1.50 one at a time"],
        ),
        (found(by_batch_apart, key="distance"), ["depend on the rest", "from 0.03 to 1.50"]),
        (found(modes(0.2, 0.3, 0), key="distance"), ["differ, and no fault", "lie 0.30"]),
    ],
)  # fmt: skip
def test_without_labels_the_verdict_speaks_of_distances(diagnosis, parts):
    sentences = verdict(diagnosis, REMEDIES)
    for part in parts:
        assert part in sentences[0]
    assert "%" not in " ".join(sentences)


def test_the_most_serious_comes_first_and_what_was_not_checked_last():
    diagnosis = found(
        by_batch,
        [("BN201", "b"), ("BN301", "b"), ("BN101", "a")],
        {"a": OFF, "b": FIT},
        changed_variables=["b/mean"],
        left_out=["BN103 was not checked"],
    )
    first = [sentence[:12] for sentence in verdict(diagnosis, REMEDIES)]
    assert first == ["Training nev", "b normalises", "BN301: b is ", "Evaluating c", "BN103 was no"]


@pytest.mark.parametrize(("examples", "chance"), [(100, True), (10_000, False)])
def test_a_few_answers_of_few_examples_are_chance(examples, chance):
    diagnosis = found(modes(0.7, 0.65, 0.7), examples=examples)
    assert ("In order" in verdict(diagnosis, REMEDIES)[0]) == chance


@pytest.mark.parametrize(("examples", "chance"), [(100, True), (1_000, False)])
def test_statistics_of_few_examples_are_uncertain(examples, chance):
    diagnosis = found(modes(0.2, 0.25, 0), key="distance", examples=examples)
    assert ("In order" in verdict(diagnosis, REMEDIES)[0]) == chance


def test_of_our_runs_it_says_how_much_of_the_start_is_left():
    diagnosis = found(FORGOTTEN, layers={"bn": OFF})
    diagnosis["layers"][0]["lag"] = 0.5
    assert "updated but far from the population (50% of" in verdict(diagnosis, REMEDIES)[0]
