"""The rules' pages: their examples behave as they say, and they are printed and published."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from support import legacy_keras

from alexnet_tf1.batchnorm.rules.registry import all_rules
from alexnet_tf1.cli import main as cli

ROOT = Path(__file__).parents[2]
RULES = [rule.id for rule in all_rules()]


@pytest.fixture(scope="module")
def found() -> dict[str, list[list[str]]]:
    """By rule, the faults in the faulty and in the mended example."""
    printed = legacy_keras.run(Path(__file__).parent / "corpus" / "rule_examples.py")
    answer: dict[str, list[list[str]]] = json.loads(printed.splitlines()[-1])
    return answer


@pytest.mark.parametrize("rule", RULES)
def test_the_faulty_example_is_flagged_and_the_mended_one_is_not(
    found: dict[str, list[list[str]]], rule: str
) -> None:
    faulty, mended = found[rule]
    assert rule in faulty
    assert mended == []


@pytest.mark.parametrize("rule", RULES)
def test_a_page_has_four_parts(rule: str) -> None:
    page = next(r.page for r in all_rules() if r.id == rule)
    assert page.what.startswith("Finds ")
    assert page.why
    assert page.faulty != page.mended
    assert "\n\n\n" not in page.what


@pytest.mark.parametrize("rule", RULES)
def test_explain_prints_the_page(rule: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["audit", "--explain", rule]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"{rule} ")
    assert all(heading in text for heading in ("Why it is bad:", "Faulty:", "Mended:"))


def test_explain_needs_no_tensorflow() -> None:
    code = (
        "import sys\nfrom alexnet_tf1.cli import main as cli\n"
        "assert cli.main(['audit', '--explain', 'CK101']) == 0\n"
        "assert not any(name.split('.')[0] in ('tensorflow', 'numpy') for name in sys.modules)"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--explain", "BN999"], ["'BN999'", "BN101, ", "and CK104"]),
        ([], ["MODEL", "--explain RULE"]),
    ],
)
def test_what_cannot_be_explained_is_one_line(
    arguments: list[str], parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["audit", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert all(part in error for part in parts)


def make_rules() -> ModuleType:
    path = ROOT / "docs" / "make_rules.py"
    if not path.exists():
        pytest.skip("docs/ is not beside the tests")
    spec = importlib.util.spec_from_file_location("make_rules", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_published_page_is_that_of_the_rules() -> None:
    module = make_rules()
    assert module.PAGE.read_text(encoding="utf-8") == module.page(), "run python docs/make_rules.py"
