"""Runs the two examples of every rule's page and prints what is found in them, as JSON.

A process of its own, since the real tf.layers need TF_USE_LEGACY_KERAS=1 when TensorFlow is
imported.
"""

import json
import os
import tempfile

import tensorflow.compat.v1 as tf

from alexnet_tf1.batchnorm.audit import audit_graph
from alexnet_tf1.batchnorm.doctor import examine_checkpoint
from alexnet_tf1.batchnorm.rules.registry import Rule, all_rules


def faults_in(rule: Rule, program: str) -> list[str]:
    names = {"tf": tf}
    with tf.Graph().as_default() as graph, tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        tf.set_random_seed(0)
        exec(program, names)
        if rule.needs == "checkpoint":
            report = examine_checkpoint("model.ckpt")
        else:
            report = audit_graph(
                graph, names["train_op"], names["logits"], names.get("is_training", False)
            )
        os.chdir("/")
    assert report.layers, rule.id
    return [fault.rule for fault in report.faults]


if __name__ == "__main__":
    tf.disable_v2_behavior()
    found = {r.id: [faults_in(r, r.page.faulty), faults_in(r, r.page.mended)] for r in all_rules()}
    print(json.dumps(found))
