"""Tells the operations that compute gradients, by the scopes that TensorFlow puts them in."""

from __future__ import annotations

import re
from collections.abc import Container

_SCOPES = re.compile(r"(^|/)(gradients(_\d+)?|gradient_tape)/")
# A transposed convolution is a Conv2DBackpropInput of the forward pass.
_OPERATIONS = re.compile(r"Grad(V\d)?$|BackpropFilter")


def is_gradient(name: str, op: str, nodes: Container[str]) -> bool:
    """Tells whether an operation was built by tf.gradients or by a GradientTape.

    tf.gradients builds the gradient of the operation a/b in the scope a/b_grad of a scope of its
    own, `gradients` unless it is told another name: a person's scope that ends so has no
    operation of that name beside it.

    Args:
      name: the operation's name; that of one in a function's body begins with the call's.
      op: its kind.
      nodes: the names at the graph's top level.

    Returns:
      True for a part of a gradient.
    """
    if _SCOPES.search(name) or _OPERATIONS.search(op):
        return True
    parts = name.split("/")
    for end, part in enumerate(parts[:-1]):
        forward, found, number = part.rpartition("_grad")
        if not found or number.strip("_0123456789"):
            continue
        paths = ["/".join([*parts[start:end], forward]) for start in range(end + 1)]
        # Of an imported graph, all names have the same scope before them.
        scopes = ["", *("/".join(parts[:k]) + "/" for k in range(1, end))]
        if any(scope + path in nodes for path in paths[1:] for scope in scopes):
            return True
    return False
