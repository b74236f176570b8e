"""How long the audit takes, by the size of the graph.

    python benchmarks/audit_time.py

Processor seconds, the median of five, on a MetaGraph of 10,000 operations (58 fused
normalisations that nobody updates), without importing TensorFlow and without reading a file.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "batchnorm"))

from test_audit import many_operations

from alexnet_tf1 import audit_graph


def main() -> None:
    meta, *names = many_operations(58)
    bodies = sum(len(function.node_def) for function in meta.graph_def.library.function)
    seconds = []
    for _ in range(5):
        started = time.process_time()
        report = audit_graph(meta, *names)
        seconds.append(time.process_time() - started)
    print(
        f"{len(meta.graph_def.node) + bodies:,} operations, {len(report.layers)} normalisations, "
        f"{len(report.faults)} faults: {statistics.median(seconds):.2f} s "
        f"({min(seconds):.2f} to {max(seconds):.2f})"
    )


if __name__ == "__main__":
    main()
