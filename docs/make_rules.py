"""Writes docs/rules.md from the rules' docstrings; tests/batchnorm/test_rules.py compares.

python docs/make_rules.py
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from alexnet_tf1.batchnorm.rules.registry import Rule, all_rules

PAGE = Path(__file__).with_name("rules.md")
INTRODUCTION = """\
# Rules

Written by `python docs/make_rules.py` from the rules themselves. `alexnet-tf1 audit --explain RULE`
prints one of them. In the examples `tf` is `tensorflow.compat.v1`; a test runs them all, finds the
fault in the faulty one and none in the mended one.

BN rules look at a graph (`alexnet-tf1 audit`), CK rules at a checkpoint (`alexnet-tf1 doctor`).
"""
ADDING = """\
## Adding a rule

1. Choose the next free identifier: BN1xx for what training does, BN2xx for what inference does,
   BN3xx for what is saved, CK1xx for what a checkpoint holds.
2. Write `alexnet_tf1/batchnorm/rules/bn104_its_name.py`. The file's name is all that registers it.
3. Begin it with a docstring of four parts: what the rule finds (the first line is a summary),
   `Why it is bad:`, `Faulty:` and `Mended:`. The two programs name their `train_op`, `logits` and
   `is_training`, or write a checkpoint `model.ckpt`.
4. Write one function under `@rule("BN104", needs="training")`. It takes a layer and the evidence
   and returns what is wrong and the remedy in one line, or None. `needs` is "training" (a training
   op), "inference" (logits), "saving" (the graph's Savers) or "checkpoint".
5. Ask the evidence (`rules/evidence.py`), not TensorFlow: a rule imports nothing that imports it,
   so that its page is printed at once.
6. Put a right graph and its sabotaged twin into `tests/batchnorm/corpus/`, in each style in which
   people write the fault, with the faults that must be found.
7. Run `python docs/make_rules.py` and
   `PYTHONPATH=tests/batchnorm python -m corpus.table > docs/audit_corpus.md`.
8. Run `python -m pytest tests/batchnorm`: no other graph of the corpus may get the new fault.
"""


def page() -> str:
    """The whole page, in markdown."""
    rules = all_rules()
    table = ["| rule | finds | needs |", "|---|---|---|"]
    table += [f"| [{r.id}](#{_anchor(r)}) | {_summary(r)} | {r.needs} |" for r in rules]
    return "\n".join([INTRODUCTION, *table, "", *map(_section, rules), ADDING])


def _summary(rule: Rule) -> str:
    return rule.page.what.partition("\n")[0].removeprefix("Finds ").rstrip(".")


def _heading(rule: Rule) -> str:
    return f"{rule.id} {rule.name}"


def _anchor(rule: Rule) -> str:
    return _heading(rule).lower().replace(" ", "-")


def _section(rule: Rule) -> str:
    what, why, faulty, mended = rule.page
    return (
        f"## {_heading(rule)}\n\n{what}\n\n**Why it is bad:** {why}\n\n"
        f"Faulty:\n\n```python\n{faulty}\n```\n\nMended:\n\n```python\n{mended}\n```\n"
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
