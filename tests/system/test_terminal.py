"""Lines on a terminal and elsewhere."""

import pytest
from support.terminal import on_a_terminal

from alexnet_tf1.system.terminal import broken, show

WORDS = "word " * 30


def test_long_lines_are_broken_between_words_on_a_terminal_only(monkeypatch, capsys):
    def told():
        show(f"BN101 bn: {WORDS}\nshort")

    told()
    assert capsys.readouterr().out == f"BN101 bn: {WORDS}\nshort\n"
    first, second, third, last = on_a_terminal(told, monkeypatch).splitlines()
    assert first == f"BN101 bn: {'word ' * 14}".rstrip()
    assert second == f"          {'word ' * 14}".rstrip()
    assert third == f"          {'word ' * 2}".rstrip()
    assert last == "short"


def test_control_characters_are_spelt_out(capsys):
    show("a\x1b[2Jb\r\x9bc\u202e\udcff\nsecond")
    assert capsys.readouterr().out == "a\\x1b[2Jb\\r\\x9bc\\u202e\\udcff\nsecond\n"


def test_the_width_is_the_terminal_s(monkeypatch):
    shown = on_a_terminal(lambda: show(WORDS), monkeypatch, columns=43)
    assert max(map(len, shown.splitlines())) == 41  # two spaces and eight words, or eight words
    assert on_a_terminal(lambda: show(WORDS), monkeypatch, columns=200).splitlines() == [WORDS]


@pytest.mark.parametrize("line", ["    alexnet-tf1 " + WORDS, "| " + WORDS + " |", "x" * 99])
def test_commands_tables_and_long_words_stay_whole(line):
    assert broken(line, 80) == line
