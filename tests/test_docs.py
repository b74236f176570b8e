"""The code in the documents does what the documents say."""

import importlib.util
import pkgutil
import re
import sys
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from PIL import Image

import alexnet_tf1
from alexnet_tf1 import audit_graph, layers
from alexnet_tf1.cli.arguments import parser

ROOT = Path(__file__).parents[1]


def code_blocks(page):
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.S)


def rules(graph, train_op, logits, is_training):
    faults = audit_graph(graph, [train_op], logits=logits, is_training=is_training).faults
    return {fault.rule for fault in faults}


def test_the_bug_in_ten_lines_is_one_and_the_mended_lines_are_not():
    block = code_blocks("docs/gap.md")[0]
    head, mended = re.split(r"# broken\n", block)
    names = {"tf": tf, "layers": layers}
    with tf.Graph().as_default() as graph:
        exec(head, names)
        ends = names["logits"], names["is_training"]
        assert rules(graph, names["train_op"], *ends) == {"BN101"}
        exec(mended, names)
        assert rules(graph, names["train_op"], *ends) == set()


def test_the_older_idiom_is_at_fault_and_its_mended_form_is_not():
    common, broken, mended = code_blocks("docs/gap.md")[1].split("\n\n")
    setting = """
images = tf.placeholder(tf.float32, [None, 8])
is_training = tf.placeholder(tf.bool, [])
x = layers.dense(images, 4, name="dense")
scale, shift = tf.get_variable("scale", [4]), tf.get_variable("shift", [4])
"""
    ending = """
logits = layers.dense(y, 2, name="dense_1")
with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
    train_op = tf.train.GradientDescentOptimizer(0.1).minimize(tf.reduce_sum(logits))
"""
    found = []
    for text in (broken, mended):
        names = {"tf": tf, "layers": layers}
        with tf.Graph().as_default() as graph:
            exec(f"{setting}{common}\n{text}{ending}", names)
            found.append(rules(graph, names["train_op"], names["logits"], names["is_training"]))
    assert found == [{"BN201", "BN202", "BN203"}, set()]


def test_the_call_from_a_program_finds_the_bug(capsys):
    head = re.split(r"# broken\n", code_blocks("docs/gap.md")[0])[0]
    with tf.Graph().as_default():
        exec(f"{head}\n{code_blocks('docs/gap.md')[2]}", {"tf": tf, "layers": layers})
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["BN101"]


def commands():
    """The parser of each command."""
    (found,) = (a for a in parser()._actions if a.metavar == "COMMAND")
    return found.choices


def test_the_readme_names_every_command():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for command in commands():
        assert f"| `{command}" in readme


def test_the_gate_runs_the_readme_s_test_command():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^    (.*python -m pytest)$", readme, re.M)
    assert f"\n{command}\n" in (ROOT / ".ci/run").read_text(encoding="utf-8")


def program(name):
    """A program of docs/, as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"docs/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_commands_is_what_the_parsers_say():
    paste_help = program("paste_help")
    written = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
    assert written == paste_help.page(), "run python docs/paste_help.py"


def test_the_page_of_commands_explains_what_each_option_does_not_its_opposite():
    page = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", page, re.M | re.S))
    assert sections.keys() == commands().keys()
    for name, command in commands().items():
        options = re.findall(r"^    (--[a-z-]+)", sections[name], re.M)
        own = [a.option_strings[0] for a in command._actions if a.option_strings]
        assert options == [option for option in own if option not in ("-h", "--debug")]
    for option in ("fast", "flip", "local-batch-norm"):  # two spellings have one text
        (text,) = re.findall(
            rf"^    --{option}, --no-{option}\s(.*?)\n    -", sections["train"], re.M | re.S
        )
        assert " ".join(text.split()).endswith(f"(default: --no-{option})")


def test_the_guide_explains_five_words_in_a_line_each_and_that_figures_differ():
    guide = (ROOT / "docs/guide.md").read_text(encoding="utf-8")
    beginning, glossary = guide.split("## Glossary\n\n")
    words = re.findall(r"^- \*\*(.+?)\*\*: .+\.$", glossary.split("\n## ")[0], re.M)
    assert words == [
        *("batch statistics", "moving averages", "precise (population) statistics"),
        *("inference", "gap"),
    ]
    assert "Your figures will\ndiffer" in beginning
    assert "(docs/guide.md#glossary)" in (ROOT / "README.md").read_text(encoding="utf-8")


PAGES = ["README.md", "CHANGELOG.md", *sorted(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))]


@pytest.fixture(scope="module")
def draw():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", list(sys.path))  # it adds benchmarks/
        yield program("draw")


def test_the_pictures_are_as_new_as_the_program_and_the_records(draw):
    assert draw.checksum() == draw.DRAWN.read_text(), "run python docs/draw.py, look at them"


@pytest.mark.soak
def test_every_picture_is_drawn_from_the_records(draw, tmp_path):
    draw.draw(tmp_path)
    drawn = {path.name for path in tmp_path.iterdir()}
    assert drawn == {path.name for path in ROOT.glob("docs/*.png")} - {"tensorboard.png"}
    for name in drawn:
        pixels = [
            np.asarray(Image.open(folder / name), int) for folder in (tmp_path, ROOT / "docs")
        ]
        assert np.abs(pixels[0] - pixels[1]).mean() < 2  # of 255; another matplotlib moves letters


def accuracies_in_the_table():
    """What docs/gap.md has measured by images tested together: by run, mode, order; in percent."""
    orders = {"as stored": ["stored"], "sorted by class": ["sorted"], "both": ["stored", "sorted"]}
    run, found = "", {}
    for line in (ROOT / "docs/gap.md").read_text(encoding="utf-8").splitlines():
        name, mode, order, *accuracies = [
            cell.strip() for cell in line.strip("|").split("|")
        ] + 3 * [""]
        run = name or run
        for kind in orders.get(order, []):
            found[run, mode, kind] = [float(accuracy) for accuracy in accuracies[:6]]
    return found


def test_the_records_of_diagnoses_are_those_in_the_table(draw):
    table = accuracies_in_the_table()
    for name, run in [
        ("original, 10,000 steps", "orig_s0"), ("`none`, `batch`, 10,000", "none_s0"),
        ("`control`, `ema`, 2,500", "ema_s0"), ("`none`, `ema`, 2,500", "ema_none_s0"),
        ("before", "foreign"),
    ]:  # fmt: skip
        recorded = {}
        for cell in draw.record(f"{run}/diagnose.json")["cells"]:
            key = name, cell["mode"], cell["order"]
            recorded.setdefault(key, []).append(round(100 * cell["accuracy"], 2))
        assert recorded == {key: row for key, row in table.items() if key[0] == name}
        assert len(recorded) == 6


def unknown_names(text):
    """What a page's code calls of this package, and nobody can import by that name."""
    code = "".join(re.findall(r"```python\n.*?```|`[^`\n]+`", text, re.S))
    names = re.findall(r"\balexnet_tf1(?:\.\w+)+", code)
    for module, imported in re.findall(r"from (alexnet_tf1[\w.]*) import (\w+(?:, *\w+)*)", code):
        names += [f"{module}.{name}" for name in re.split(", *", imported)]
    bare = re.findall(rf"`({'|'.join(alexnet_tf1.__all__)})\(", code)
    return bare + [name for name in names if not can_be_imported(name)]


def can_be_imported(name):
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_imports_is_there(page):
    assert unknown_names((ROOT / page).read_text(encoding="utf-8")) == []


def test_an_import_that_does_not_work_is_found():
    text = "`alexnet_tf1.audit_graph(x)` `audit_graph(...)` `alexnet_tf1.no_such`\n```python\n"
    text += "from alexnet_tf1.audit import audit_graph, Fault\n```"
    gone = ["alexnet_tf1.audit.audit_graph", "alexnet_tf1.audit.Fault"]
    wrong = ["audit_graph", "alexnet_tf1.no_such", "alexnet_tf1.audit", *gone]
    assert unknown_names(text) == wrong


def broken_links(text, folder):
    """Relative targets of links and images that are not there; headings are looked for too."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.S)
    targets = re.findall(r"\]\(\s*<?([^)\s>]+)", text) + re.findall(
        r"^\[.+?\]:\s*(\S+)", text, re.M
    )
    targets += re.findall(r"<(?:img|a)\b[^>]*?(?:src|href)=[\"']([^\"']+)", text)
    broken = []
    for target in targets:
        if re.match(r"[a-z]+:", target):
            continue
        path, _, heading = unquote(target).partition("#")
        is_there = not path or (folder / path).exists()
        if is_there and heading:
            page = (folder / path).read_text(encoding="utf-8") if path else text
            is_there = heading in headings(page)
        if not is_there:
            broken.append(target)
    return broken


def headings(text):
    """The anchors of a page, as GitHub makes them."""
    titles = re.findall(r"^#+ +(.+?) *$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_and_picture_is_there(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert broken_links(text, (ROOT / page).parent) == []


def test_a_broken_link_is_found(tmp_path):
    (tmp_path / "page.md").write_text("# One thing, more\n")
    text = (
        "# Here\n[a](page.md) [b](page.md#one-thing-more) ![c](no.png) [d](page.md#two) [e](#here)"
    )
    text += (
        " [f](https://example.com/x) `[g](code.md)` [h](#there)\n[i]: gone.md\n<img src='j.png'>"
    )
    assert broken_links(text, tmp_path) == ["no.png", "page.md#two", "#there", "gone.md", "j.png"]
