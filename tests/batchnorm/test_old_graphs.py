"""Graphs as TensorFlow 1.0 and 1.1 wrote them, in which no placeholder says its shape."""

from __future__ import annotations

import pytest
import tensorflow.compat.v1 as tf
from corpus.cases import (
    dense,
    fused_norm,
    inputs,
    loss_of,
    minimize,
    moments_norm,
    style_of,
    switch,
)
from corpus.old import as_first_written, by_shifted_moments
from corpus.single import both, network, only_4d

from alexnet_tf1.batchnorm.audit import audit_graph

NETWORKS = {"moments": network, "fused": only_4d, "shifted moments": network}
NORMS = {"moments": moments_norm, "fused": fused_norm, "shifted moments": by_shifted_moments}


@pytest.mark.parametrize("shapes", [True, False], ids=["with shapes", "without shapes"])
@pytest.mark.parametrize("before", [None, []], ids=["right", "forgotten"])
@pytest.mark.parametrize("kind", list(NETWORKS))
def test_layers_are_found_whatever_placeholders_say(
    kind: str, before: list[str] | None, *, shapes: bool
) -> None:
    with tf.Graph().as_default(), style_of("ref, v1"):
        net = NETWORKS[kind](NORMS[kind], switch(), before)
        meta = as_first_written(tf.train.export_meta_graph(), shapes=shapes)
    report = audit_graph(meta, net.train_ops.name, net.logits.name, net.is_training.name)
    found = [f"{fault.rule} {fault.layer}" for fault in report.faults]
    assert [name for name, _ in report.layers] == ["bn1", "bn2"]
    assert found == ([] if before is None else both("BN101"))


def test_a_scalar_that_says_so_is_no_data() -> None:
    """A rate is not an example: what is averaged with it is an average."""
    with tf.Graph().as_default(), style_of("ref, v1"):
        images, labels = inputs()
        momentum = tf.placeholder(tf.float32, [], name="momentum")
        x = fused_norm(images, switch(), "bn1", momentum)
        minimize(loss_of(labels, dense(x, 10, "fc2")), [])
        meta = as_first_written(tf.train.export_meta_graph(), shapes=True)
    assert [f"{f.rule} {f.layer}" for f in audit_graph(meta).faults] == ["BN101 bn1"]
