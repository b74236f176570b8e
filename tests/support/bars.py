"""Notes the progress bars that a command shows."""

import contextlib
import sys

from alexnet_tf1.reporting import progress


def noted(patch):
    """A list that gets of each bar: total, unit, done before, quiet, stream, the counts."""
    bars, real = [], progress.bar

    @contextlib.contextmanager
    def bar(total, unit, *, done=0, quiet=False, stream=None):
        counts = []
        name = "error" if stream is sys.stderr else "output"
        bars.append((total, unit, done, quiet, name, counts))
        with real(total, unit, done=done, quiet=quiet, stream=stream) as advance:
            yield lambda count: (counts.append(count), advance(count))

    patch.setattr(progress, "bar", bar)
    return bars
