"""The one worklist: what it visits, and that a walk which was cut is told."""

from __future__ import annotations

from typing import Any

import pytest
import tensorflow.compat.v1 as tf
from corpus.cases import moments_norm, switch
from corpus.single import network

from alexnet_tf1.batchnorm.audit import audit_graph
from alexnet_tf1.batchnorm.graph.walk import Walks
from alexnet_tf1.batchnorm.layers import sites
from alexnet_tf1.cli import output

EDGES = {1: [2, 3], 2: [4], 3: [4, 1], 4: [5], 5: []}


def test_everything_is_visited_once_and_the_nearest_first() -> None:
    walks = Walks()
    assert list(walks.reach([1], EDGES.__getitem__)) == [1, 2, 3, 4, 5]
    assert list(walks.reach([3, 3], EDGES.__getitem__)) == [3, 4, 1, 5, 2]
    assert walks.cut == 0


@pytest.mark.parametrize(("limit", "visited", "cut"), [(5, 5, 0), (4, 4, 1), (1, 1, 1)])
def test_a_walk_that_would_go_beyond_its_limit_is_counted(
    limit: int, visited: int, cut: int
) -> None:
    walks = Walks()
    assert len(list(walks.reach([1], EDGES.__getitem__, limit))) == visited
    assert walks.cut == cut


def test_a_walk_that_found_what_it_looked_for_is_not_cut() -> None:
    walks = Walks()
    assert 2 in walks.reach([1], EDGES.__getitem__, 2)
    assert walks.cut == 0


def audited() -> dict[str, Any]:
    with tf.Graph().as_default() as graph:
        network(moments_norm, switch())
    return audit_graph(graph).to_json("graph")


def test_a_report_says_that_walks_were_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = audited()
    assert not any("cut" in note for note in whole["notes"])
    assert output.faults("graph", whole).endswith("\nno faults found")
    monkeypatch.setattr(sites, "_STEPS", 3)
    cut = audited()
    assert any("walks through the graph were cut" in note for note in cut["notes"])
    assert not output.faults("graph", cut).endswith("\nno faults found")
