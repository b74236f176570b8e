"""Registers the rules and applies them; the one place that knows which rules there are.

A rule is a module of this package whose name begins with its identifier. Importing a rule does
not import TensorFlow, so that a rule's page can be printed at once.
"""

import importlib
import pkgutil
import re
import sys
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from textwrap import dedent, indent
from typing import Any, NamedTuple, TypeVar

from alexnet_tf1.batchnorm import rules
from alexnet_tf1.batchnorm.report import Fault, Need
from alexnet_tf1.batchnorm.rules.selection import Selection, selection
from alexnet_tf1.batchnorm.rules.wording import listed
from alexnet_tf1.errors import UserError

# Of one layer and the evidence, what is wrong and the remedy in one line; None if nothing is.
Find = Callable[[Any, Any], "str | None"]
F = TypeVar("F", bound=Find)

_MODULE = re.compile(r"[a-z]{2}[0-9]{3}_")
_WHY, _FAULTY, _MENDED = "Why it is bad:", "Faulty:", "Mended:"


class Page(NamedTuple):
    """The four parts of a rule's docstring."""

    what: str  # what the rule finds; the first line is a summary
    why: str  # what it does to a model
    faulty: str  # a program with the fault, in which `tf` is tensorflow.compat.v1
    mended: str  # the same program without it


@dataclass(frozen=True)
class Rule:
    """One rule."""

    id: str  # its identifier, e.g. "BN101"
    name: str  # its name, e.g. "update-not-reached"
    # "training": a training op; "inference": logits; "saving": the graph's Savers; "checkpoint":
    # a checkpoint's values
    needs: Need
    find: Find  # the decorated function
    page: Page  # its docstring

    def text(self) -> str:
        """The page as `audit --explain` prints it."""
        what, why, faulty, mended = self.page
        parts = [f"{self.id} {self.name} (needs: {self.needs})", what, f"{_WHY}\n{why}"]
        parts += [f"{_FAULTY}\n{indent(faulty, '    ')}", f"{_MENDED}\n{indent(mended, '    ')}"]
        return "\n\n".join(parts)


_RULES: dict[str, Rule] = {}
ALL = Selection([], [])


def rule(identifier: str, *, needs: Need) -> Callable[[F], F]:
    """Registers the decorated function as a rule; its module's docstring is the rule's page.

    The function takes a layer and the evidence: layers.layer.Layer and Evidence, or, of a
    checkpoint, MeasuredLayer and CheckpointEvidence.

    Args:
      identifier: "BN" for a graph's rules, "CK" for a checkpoint's, and three digits.
      needs: what must be there for the rule to be checked.
    """

    def register(find: F) -> F:
        page = _page(sys.modules[find.__module__].__doc__ or "")
        name = find.__name__.replace("_", "-")
        _RULES[identifier] = Rule(identifier, name, needs, find, page)
        return find

    return register


def all_rules() -> list[Rule]:
    """Every rule there is, in the order of the identifiers."""
    for module in pkgutil.iter_modules(rules.__path__):
        if _MODULE.match(module.name):
            importlib.import_module(f"{rules.__name__}.{module.name}")
    return [_RULES[identifier] for identifier in sorted(_RULES)]


def explain(identifier: str) -> str:
    """The page of one rule.

    Raises:
      UserError: if there is no such rule; with those there are.
    """
    known = {rule.id: rule for rule in all_rules()}
    if identifier not in known:
        raise UserError(f"there is no rule {identifier!r}; the rules are {listed(list(known))}")
    return known[identifier].text()


def identifiers(needs: Need) -> str:
    """The identifiers of all rules with this need, for a message: "BN101 and BN102"."""
    return listed([rule.id for rule in all_rules() if rule.needs == needs])


def selected(select: str | Iterable[str] | None, ignore: str | Iterable[str] | None) -> Selection:
    """Reads which rules a user wants to be checked, see `selection.selection`."""
    return selection(select, ignore, [rule.id for rule in all_rules()])


def check(
    layers: Iterable[Any],
    evidence: Any,
    needs: Collection[Need],
    selected: Selection = ALL,
) -> list[Fault]:
    """Applies every rule whose need is met to every layer, which has a name.

    The faults are in the order of the layers, then of the rules.
    """
    chosen = [rule for rule in all_rules() if rule.needs in needs]
    return [
        Fault(rule.id, layer.name, message)
        for layer in layers
        for rule in chosen
        if selected.allows(rule.id, layer.name) and (message := rule.find(layer, evidence))
    ]


def _page(docstring: str) -> Page:
    """Takes a docstring apart at its three headings."""
    what, why, faulty, mended = re.split(f"^(?:{_WHY}|{_FAULTY}|{_MENDED})$", docstring, flags=re.M)
    code = (dedent(text.strip("\n")).rstrip() for text in (faulty, mended))
    return Page(what.strip(), why.strip(), *code)
