"""What docs/migration.md says, done with the real tf.layers, in a process of its own.

    TF_USE_LEGACY_KERAS=1 python migration_program.py FOLDER

Trains examples/their_model.py broken and mended into FOLDER; prints in JSON what those printed and
which calls of docs/era_calls.py work.
"""

import contextlib
import io
import json
import os
import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).parents[2]


def main():
    sys.path += [str(ROOT / "docs"), str(ROOT / "examples")]
    import era_calls
    import their_model

    warnings.simplefilter("ignore")  # tf.layers is deprecated, as we know
    os.chdir(sys.argv[1])
    found = {"calls": era_calls.measure()}
    for name in ("broken", "mended"):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            their_model.train(name, is_mended=name == "mended")
        found[name] = printed.getvalue()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
