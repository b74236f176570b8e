"""Coverage-guided fuzzing of one reader.

python tests/support/fuzz_atheris.py READER [libFuzzer options]

Needs `pip install atheris`. READER is batch, config, metrics, graph or checkpoint. Ends with the
bytes of the fault where there is one (file crash-...), after -max_total_time seconds where not.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

with atheris.instrument_imports(include=["alexnet_tf1"]):
    from alexnet_tf1.data import cifar10, restricted_pickle  # noqa: F401
    from alexnet_tf1.runs import folder  # noqa: F401

    if sys.argv[1] in ("graph", "checkpoint"):
        from alexnet_tf1.batchnorm import audit, doctor  # noqa: F401

from support import fuzz_targets as targets  # noqa: E402


def main() -> None:
    """Fuzzes until libFuzzer's options say enough."""
    name = sys.argv.pop(1)
    cifar10.IMAGES_PER_FILE = targets.IMAGES
    # In memory where there is such a folder: a file is written each time.
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as made:
        folder = Path(made)
        seeds = folder / "seeds"
        seeds.mkdir()
        if name == "checkpoint":
            index, shard = targets.valid_checkpoint(folder)
            (seeds / "valid").write_bytes(index)
        else:
            (seeds / "valid").write_bytes(getattr(targets, f"valid_{name}")())

        def one_input(data: bytes) -> None:
            if name == "batch":
                targets.within_bounds(lambda: targets.batch(data))
            elif name == "checkpoint":
                targets.within_bounds(lambda: targets.checkpoint(folder, data, shard))
            else:
                targets.within_bounds(lambda: getattr(targets, name)(folder, data))

        limits = [f"-max_len={targets.LARGEST}", "-rss_limit_mb=4096", "-timeout=20"]
        atheris.Setup([sys.argv[0], *limits, *sys.argv[1:], str(seeds)], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
