"""The whole corpus, and the table of it.

PYTHONPATH=tests/batchnorm python -m corpus.table > docs/audit_corpus.md
"""

from __future__ import annotations

from collections import Counter

from corpus import apart as audit_graphs_apart
from corpus import flow as audit_graphs_flow
from corpus import folded as audit_graphs_folded
from corpus import frozen as audit_graphs_frozen
from corpus import networks as audit_graphs_networks
from corpus import old as audit_graphs_old
from corpus import others as audit_graphs_others
from corpus import outputs as audit_graphs_outputs
from corpus import programs as audit_graphs_programs
from corpus import pruning as audit_graphs_pruning
from corpus import single as audit_graphs_single
from corpus.cases import CASES, built

PARTS = (
    *(audit_graphs_single, audit_graphs_networks, audit_graphs_others, audit_graphs_flow),
    *(audit_graphs_pruning, audit_graphs_old, audit_graphs_folded, audit_graphs_frozen),
    audit_graphs_programs,
    audit_graphs_outputs,
    audit_graphs_apart,
)


def counted(faults: list[str]) -> str:
    """E.g. "BN101 x2": how many layers break which rule."""
    rules = Counter(fault.split()[0] for fault in faults)
    return ", ".join(f"{r} x{n}" if n > 1 else r for r, n in sorted(rules.items())) or "none"


def table() -> list[str]:
    """Audits every graph and writes what was expected and found."""
    from alexnet_tf1.batchnorm.audit import audit_graph

    rows, agreed = [], 0
    for entry in CASES:
        graph, net = built(entry)
        named, alone = (
            [f"{fault.rule} {fault.layer}" for fault in report.faults]
            for report in (audit_graph(graph, *net), audit_graph(graph))
        )
        same = sorted(named) == sorted(entry.expects) and sorted(alone) == sorted(entry.alone)
        agreed += same
        kind = "sabotaged" if entry.expects else "right"
        rules = (counted(faults) for faults in (entry.expects, named, entry.alone, alone))
        rows.append(f"| {' | '.join([entry.name, kind, *rules, 'yes' if same else 'NO'])} |")
    right = sum(not entry.expects for entry in CASES)
    return [
        "# The audit's corpus",
        "",
        f"{len(CASES)} graphs: {right} right ones and {len(CASES) - right} sabotaged twins; "
        f"the audit agrees on {agreed}. Each is built by a function in tests/batchnorm/corpus/ "
        "and audited as a live graph and as a MetaGraph (tests/batchnorm/test_audit.py), there "
        "also with "
        "the layers named. The graphs of the real tf.layers and tf_keras layers are in "
        "tests/batchnorm/corpus/keras_graphs.py. This page is the output of "
        "`PYTHONPATH=tests/batchnorm python -m corpus.table`.",
        "",
        "Faults are counted by layer, once with everything named and once alone, with nothing "
        "named: then the audit has to find the training ops, the outputs and the switches itself, "
        "and of a graph that only trains it checks training alone. The words in brackets are the "
        "kind of variables and the generation of control flow; without them: resource, v2.",
        "",
        "| graph | kind | faults expected | found | expected alone | found alone | as expected |",
        "|---|---|---|---|---|---|---|",
        *rows,
    ]


if __name__ == "__main__":
    print("\n".join(table()))
