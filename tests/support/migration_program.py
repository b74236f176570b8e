"""What docs/migration.md says, done with the real tf.layers, in a process of its own.

    TF_USE_LEGACY_KERAS=1 python migration_program.py FOLDER

Trains examples/their_model.py broken and mended into FOLDER, and repairs the broken one; prints in
JSON what those printed and which calls of docs/era_calls.py work.
"""

import contextlib
import io
import json
import os
import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).parents[2]
REPAIR = (
    "recalibrate broken/model.ckpt-300 --feed x=broken/x.npy --out broken/repaired "
    "--saved-model served"
)


def main():
    sys.path += [str(ROOT), str(ROOT / "docs"), str(ROOT / "examples")]
    import era_calls
    import their_model

    from alexnet_tf1.cli import main as cli

    warnings.simplefilter("ignore")  # tf.layers is deprecated, as we know
    os.chdir(sys.argv[1])
    found = {"calls": era_calls.measure()}
    for command, run in (
        ("broken", lambda: their_model.train("broken", is_mended=False)),
        (REPAIR, lambda: cli.main(REPAIR.split())),
        ("test broken/repaired", lambda: their_model.test("broken/repaired")),
        ("mended", lambda: their_model.train("mended", is_mended=True)),
    ):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            run()
        found[command] = printed.getvalue()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
