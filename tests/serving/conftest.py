"""The runs that the tests of serving read and never change."""

import pytest


@pytest.fixture(scope="session")
def served_runs(tmp_path_factory):
    from support.served import train_both
    from support.shared import once

    return once(tmp_path_factory, "served", train_both)


@pytest.fixture(scope="session")
def run_folder(served_runs):
    """A short run with moving averages in all four normalisations."""
    return served_runs / "ema"


@pytest.fixture(scope="session")
def batch_run(served_runs):
    """The same weights as a run of the original's normalisation, recalibrated."""
    return served_runs / "batch"
