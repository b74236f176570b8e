"""Selects which faults are reported: by rule, by a prefix of rules, by rule and layer."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import NamedTuple

from alexnet_tf1.errors import UserError


class Pattern(NamedTuple):
    """One pattern: "BN101", "BN2", or "BN203:critic/*"."""

    rule: str  # a rule's identifier or what several begin with
    layer: str  # a glob

    def __str__(self) -> str:
        """As it was given."""
        return self.rule if self.layer == "*" else f"{self.rule}:{self.layer}"

    def matches(self, rule: str, layer: str) -> bool:
        """Tells whether a fault of this rule and layer is meant."""
        return rule.startswith(self.rule) and fnmatchcase(layer, self.layer)


class Selection(NamedTuple):
    """The patterns of faults to report and of those to leave out."""

    select: list[Pattern]  # empty: all
    ignore: list[Pattern]

    def allows(self, rule: str, layer: str) -> bool:
        """Tells whether a fault of this rule and layer is reported."""
        if self.select and not any(p.matches(rule, layer) for p in self.select):
            return False
        return not any(p.matches(rule, layer) for p in self.ignore)

    def left_out(self) -> dict[str, str]:
        """Says what is not checked, as AuditReport.left_out does."""
        parts = []
        if self.select:
            parts.append(f"only {', '.join(map(str, self.select))} by --select")
        if self.ignore:
            parts.append(f"not {', '.join(map(str, self.ignore))} by --ignore")
        return {"selection": ", ".join(parts)} if parts else {}


def selection(
    select: str | Iterable[str] | None, ignore: str | Iterable[str] | None, known: Iterable[str]
) -> Selection:
    """Reads the patterns that a user gave.

    Args:
      select: of the faults to report, in one text with commas or in several; None: all.
      ignore: of the faults to leave out.
      known: the identifiers of the rules there are.

    Returns:
      The selection.

    Raises:
      UserError: if a pattern fits no rule.
    """
    rules = list(known)
    return Selection(_patterns(select, "--select", rules), _patterns(ignore, "--ignore", rules))


def _patterns(given: str | Iterable[str] | None, option: str, known: list[str]) -> list[Pattern]:
    texts = [given] if isinstance(given, str) else list(given or ())
    found = []
    for part in (part.strip() for text in texts for part in text.split(",")):
        rule, _, layer = part.partition(":")
        if not rule or not any(one.startswith(rule) for one in known):
            raise UserError(f"{option} {part!r} fits no rule; the rules are {', '.join(known)}")
        found.append(Pattern(rule, layer or "*"))
    return found
