"""The program as it is, resumed; other tests of runs take a narrow network without Grappler."""

import numpy as np
import pytest
from support.run_files import metrics, variables
from support.small_set import TINY

from alexnet_tf1.cli import main as cli
from alexnet_tf1.data import synthetic

FAST = pytest.param(["--fast", "--precision", "bfloat16"], marks=pytest.mark.soak)


@pytest.mark.parametrize("options", [[], FAST], ids=["default", "fast"])
def test_a_resumed_run_ends_in_the_bits_of_the_whole_one(options, tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic, "generate", TINY)
    options = [*options, "--dataset", "synthetic", "--batch-size", "4", "--log-every", "1"]
    options += ["--test-batches", "1", "--test-every", "3"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert cli.main(["train", *options, "--steps", "6", "--run-dir", str(whole)]) == 0
    assert cli.main(["train", *options, "--steps", "3", "--run-dir", str(parts)]) == 0
    assert cli.main(["train", "--resume", "--steps", "6", "--run-dir", str(parts)]) == 0
    assert metrics(parts) == metrics(whole)
    ours, theirs = variables(parts, 6), variables(whole, 6)
    assert ours.keys() == theirs.keys()
    assert sum(value.size for value in theirs.values()) > 10_000_000, "Adam's among them"
    for name, value in theirs.items():
        np.testing.assert_array_equal(ours[name], value, err_msg=name)
