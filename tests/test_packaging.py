"""What is packed and what other machines are told to run, against what the gate runs."""

import re
from pathlib import Path

from support.longest import LONG

ROOT = Path(__file__).parents[1]


def text(name):
    return (ROOT / name).read_text(encoding="utf-8")


def commands(name):
    """What a YAML file of ours runs, without a YAML reader: its `run:` and `entry:` lines."""
    return re.findall(r"^ *(?:- )?(?:run|entry): (.+)$", text(name), re.M)


def test_every_package_is_packed():
    assert 'packages=find_packages(include=["alexnet_tf1", "alexnet_tf1.*"])' in text("setup.py")
    folders = {path.parent for path in (ROOT / "alexnet_tf1").rglob("*.py")}
    assert len(folders) > 10
    assert [f for f in folders if not (f / "__init__.py").exists()] == []  # find_packages misses it


def test_the_workflow_runs_the_gate_s_commands_on_the_lowest_and_the_highest_python():
    workflow = text(".github/workflows/test.yml")
    gate = text(".ci/run")
    runs = commands(".github/workflows/test.yml")
    assert 'pip install ".[test]" && python -m pytest' in runs
    for command in ("ruff check .", "ruff format --check .", "mypy", "lint-imports"):
        assert command in runs
        assert command in gate
    (matrix,) = re.findall(r"python: \[(.+)\]", workflow)
    setup = text("setup.py")
    supported = re.findall(r'"Programming Language :: Python :: (\d\.\d+)"', setup)
    assert re.findall(r'"(.+?)"', matrix) == [supported[0], supported[-1]]
    assert f'python_requires=">={supported[0]}"' in setup
    assert re.findall(r"^permissions:\n(.*\n)\n", workflow, re.M) == ["  contents: read\n"]


def test_the_hooks_before_a_commit_are_the_gate_s_lint_and_types():
    hooks = [entry.replace(" --force-exclude", "") for entry in commands(".pre-commit-config.yaml")]
    assert hooks == ["ruff check", "ruff format --check", "mypy", "lint-imports"]
    assert re.findall(r"repo: (.+)", text(".pre-commit-config.yaml")) == ["local"]


def test_every_dependency_has_a_lower_bound_and_a_reason():
    setup = text("setup.py")
    (required,) = re.findall(r"install_requires=\[\n(.*?)\n    \]", setup, re.S)
    (test,) = re.findall(r"^TEST = \[\n(.*?)\n\]", setup, re.S | re.M)
    for line in f"{required}\n{test}".splitlines():
        assert re.fullmatch(r' +"[\w-]+>=[\d.]+(,<\d+)?",  # .+', line), line


def test_the_files_that_begin_first_are_there():
    assert [name for name in LONG if not (ROOT / "tests" / name).exists()] == []
