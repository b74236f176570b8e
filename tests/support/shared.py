"""What is costly to make and only read: made once, whichever of xdist's workers asks first."""

import os
import shutil

from filelock import FileLock


def once(factory, name, make):
    """Returns the folder that `make(folder)` filled; the other workers wait for it.

    Args:
      factory: pytest's tmp_path_factory.
      name: the folder's name, one for all tests.
      make: fills the folder, which does not exist yet.
    """
    base = factory.getbasetemp()  # a worker's own; the one above it is of this run of pytest
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    done = folder.with_suffix(".done")
    with FileLock(folder.with_suffix(".lock")):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a worker that failed
            make(folder)
            done.touch()
    return folder
