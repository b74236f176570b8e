"""Names in a sentence."""

import pytest

from alexnet_tf1.reporting.text import listed


@pytest.mark.parametrize(
    ("names", "sentence"),
    [(["a"], "a"), (["a", "b"], "a and b"), (["a", "b, c", "d"], "a, b, c and d")],
)
def test_names_are_listed_as_in_a_sentence(names, sentence):
    assert listed(name for name in names) == sentence
