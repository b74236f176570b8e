"""Writes docs/commands.md from the command line's parsers; tests/test_docs.py compares.

    python docs/paste_help.py

The text is laid out here, since argparse's own layout differs from one Python to the next.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from alexnet_tf1.cli.arguments import parser

PAGE = Path(__file__).with_name("commands.md")
INTRODUCTION = """\
# Commands and options

Written by `python docs/paste_help.py` from the program's parsers. `alexnet-tf1 COMMAND --help` says
the same. [guide.md](guide.md) shows the commands at work.

Exit status: 0 done; 1 faults were found; 2 bad usage or bad input; 70 an error of the program
itself, of which `--debug`, before or after any command, shows the place; 128 + N stopped by signal
N. An error is one line on standard error.
"""
WIDTH, COLUMN = 100, 30


def page() -> str:
    """Writes the whole page, in Markdown."""
    (commands,) = (a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    sections = [_section(name, command) for name, command in commands.choices.items()]
    return "\n".join([INTRODUCTION, *sections])


def _section(name: str, command: argparse.ArgumentParser) -> str:
    """Lays out one command: what it does, how it is called, its operands and options."""
    shown = [a for a in command._actions if a.help != argparse.SUPPRESS]
    actions = [a for a in shown if not isinstance(a, argparse._HelpAction)]
    operands = [_signature(a) for a in actions if not a.option_strings]
    call = " ".join(["alexnet-tf1", name, *operands, "[options]"])
    description = textwrap.fill(command.description or "", WIDTH)
    lines = [f"## {name}", "", description, "", f"    {call}", ""]
    expand = command._get_formatter()._expand_help  # %(default)s and the like
    for action in actions:
        signature = _signature(action)
        help_text = expand(action) if action.help else ""
        text = textwrap.wrap(help_text, WIDTH - COLUMN, break_on_hyphens=False)
        if len(signature) > COLUMN - 6:  # no room beside it
            lines.append(f"    {signature}")
            signature = ""
        for line in text or [""]:
            lines.append(f"    {signature:<{COLUMN - 4}}{line}".rstrip())
            signature = ""
    return "\n".join(lines) + "\n"


def _signature(action: argparse.Action) -> str:
    """Spells an argument as it is typed: "RUN", "IMAGE...", "--steps N", "--fast, --no-fast"."""
    value = action.metavar or action.dest.upper()
    if action.choices is not None and action.metavar is None:
        value = "{" + ",".join(map(str, action.choices)) + "}"
    value = {"+": "{}...", "*": "[{}...]", "?": "[{}]"}.get(str(action.nargs), "{}").format(value)
    if not action.option_strings:
        return value
    option = ", ".join(action.option_strings)
    return option if action.nargs == 0 else f"{option} {value}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
