"""Bad input of every kind: one line, exit 2, nothing changed on disk. The table drives the test."""

from __future__ import annotations

import argparse
import functools
import hashlib
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
from support import bad_inputs, bad_resumes, mistakes
from support.saved import layer, save

from alexnet_tf1.cli import main as cli
from alexnet_tf1.cli.arguments import parser
from alexnet_tf1.data import cifar10, synthetic

CASES = [*bad_inputs.table(), *bad_resumes.cases()]


@pytest.fixture(scope="module")
def small_and_offline():
    """A synthetic set of 40 and 20 images, files of CIFAR-10 with 20 each, and no network."""

    def no_network(url: str, *_: Any, **__: Any) -> None:
        raise cifar10.DownloadError(f"cannot download {url} (no network in tests)")

    with pytest.MonkeyPatch.context() as patch:
        generate = functools.partial(synthetic.generate, train_images=40, test_images=20)
        patch.setattr(synthetic, "generate", generate)
        patch.setattr(cifar10, "IMAGES_PER_FILE", mistakes.IMAGES)
        patch.setattr(cifar10, "fetch", no_network)
        patch.delenv("CIFAR10_DIR", raising=False)
        yield


@pytest.fixture(scope="module")
def original(small_and_offline, tmp_path_factory) -> Path:
    """A folder with a run of two steps and a checkpoint of another network."""
    place = tmp_path_factory.mktemp("original")
    options = ["--batch-size=4", "--log-every=1", "--test-every=2", "--checkpoint-every=2"]
    run_dir = ["--run-dir", str(place / "run")]
    assert cli.main(["train", "--dataset=synthetic", "--steps=2", *options, *run_dir]) == 0
    (place / "other").mkdir()
    save(place / bad_inputs.OTHER, layer("bn"))
    return place


@pytest.fixture
def place(original, tmp_path, monkeypatch) -> Path:
    """A copy of `original` to work in. Its files are hard links: a case replaces, never edits."""
    shutil.copytree(original, tmp_path / "place", copy_function=link_or_copy)
    monkeypatch.chdir(tmp_path / "place")
    return tmp_path / "place"


def link_or_copy(source: str, target: str) -> None:
    """Links what is large; what is small and written in place is refused where it has two names."""
    if os.stat(source).st_size < 10**6:
        shutil.copy2(source, target)
    else:
        os.link(source, target)


HASHES: dict[tuple[int, ...], str] = {}


def hash_of(path: Path, status: os.stat_result) -> str:
    """SHA-256; of the 40 MB that all cases link to once, as long as nobody wrote to them."""
    if status.st_size < 10**6:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    identity = (status.st_ino, status.st_mtime_ns, status.st_size)
    if identity not in HASHES:
        HASHES[identity] = hashlib.sha256(path.read_bytes()).hexdigest()
    return HASHES[identity]


def is_locked(path: Path) -> bool:
    return path.is_file() and not os.access(path, os.R_OK)


def listing(place: Path) -> dict[str, tuple[Any, ...]]:
    """Of each file and folder below: kind, mode, size and, of a file, the hash."""
    found = {}
    for path in sorted(place.rglob("*")):
        status = path.lstat()
        entry: tuple[Any, ...] = (status.st_mode,)
        if stat.S_ISREG(status.st_mode):
            entry += (status.st_size,)
            if status.st_size < 10**9 and os.access(path, os.R_OK):
                entry += (hash_of(path, status),)
        found[str(path.relative_to(place))] = entry
    return found


def run(arguments: tuple[str, ...]) -> int:
    try:
        return cli.main(arguments)
    except SystemExit as stop:
        return int(str(stop.code))


def name_of(case: mistakes.Case) -> str:
    text = " ".join(a if len(a) < 40 else f"{a[:30]}..." for a in case.arguments)
    return "".join(c if c.isprintable() and c.isascii() else "?" for c in text)


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_bad_input_is_one_line_and_changes_nothing(case, place, capsys):
    case.make(place)
    if case.spares_root and not any(is_locked(path) for path in place.rglob("*")):
        pytest.skip("root may read anything")
    before = listing(place)
    capsys.readouterr()
    status = run(case.arguments)
    out, error = capsys.readouterr()
    assert status == 2, (out, error)
    assert [line for line in out.splitlines() if not line.startswith(case.first)] == []
    lines = error.splitlines()
    if len(lines) == 2 and lines[0].startswith(case.first):
        del lines[0]
    assert len(lines) == 1, error
    assert lines[0].startswith("error: ")
    assert lines[0].isprintable()
    assert len(lines[0]) < 2_100
    for part in case.says:
        assert part in lines[0]
    assert listing(place) == before


def test_the_table_covers_every_option_of_every_command(small_and_offline):
    """A new option without its bad values fails here."""
    (commands,) = (a for a in parser()._actions if isinstance(a.choices, dict))
    assert set(commands.choices) == set(bad_inputs.OPTIONS)
    for command, own in commands.choices.items():
        shown = (a for a in own._actions if a.option_strings and a.help != argparse.SUPPRESS)
        options = {a.option_strings[-1] for a in shown}
        assert options - set(bad_inputs.OPTIONS[command]) == {"--help"}
