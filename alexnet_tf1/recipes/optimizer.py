"""The optimizers of the recipes: Adam with a rate that changes, and Muon."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import tensorflow.compat.v1 as tf

from alexnet_tf1.config import TrainConfig
from alexnet_tf1.ops import Tensor

ITERATIONS = 3  # of Muon's orthogonalisation; more gain no accuracy (docs/recipes.md)


def optimizer_for(config: TrainConfig) -> Any:
    """Makes the tf.train.Optimizer that a run's settings ask for; Adam for the original's."""
    optimizer = tf.train.AdamOptimizer(_rate(config, config.learning_rate))
    if config.optimizer == "muon":
        optimizer = MuonWithAdam(Muon(_rate(config, config.muon_rate)), optimizer)
    return Sparing(optimizer, "conv1/") if config.kernels == "prepared" else optimizer


def _rate(config: TrainConfig, most: float) -> float | Callable[[], Tensor]:
    if config.schedule == "constant":
        return most
    return lambda: one_cycle(most, config.steps, config.warmup)


def one_cycle(most: float, steps: int, warmup: float) -> Tensor:
    """Computes the learning rate of the step that comes next, in a cycle over a whole run.

    Args:
      most: its largest value, dimensionless.
      steps: S, of the run.
      warmup: part of them in which the rate rises, 0 to 1.

    Returns:
      float32 []: in step s, counted from 1, the smaller of most * s / (warmup * (S + 1)) and
      most * (1 - s / (S + 1)) / (1 - warmup).
    """
    global_step = tf.train.get_or_create_global_step()
    done = (tf.cast(global_step, tf.float32) + 1) / (steps + 1)
    falling = (1 - done) / (1 - warmup)
    return most * (tf.minimum(done / warmup, falling) if warmup else falling)


class Sparing(tf.train.Optimizer):  # type: ignore[misc]  # TensorFlow ships no types
    """Trains with another optimizer all variables but those of a scope."""

    def __init__(self, optimizer: Any, scope: str) -> None:
        """Takes the optimizer and the beginning of the names that it shall not see."""
        super().__init__(use_locking=False, name="Sparing")
        self._optimizer = optimizer
        self._scope = scope

    def compute_gradients(self, loss: Tensor, **more: Any) -> list[tuple[Tensor, Tensor]]:
        """Computes the gradients of `loss`, [] float32, as the optimizer does, but those spared."""
        others = [v for v in tf.trainable_variables() if not v.op.name.startswith(self._scope)]
        more["var_list"] = others
        pairs: list[tuple[Tensor, Tensor]] = self._optimizer.compute_gradients(loss, **more)
        return pairs

    def apply_gradients(self, *given: Any, **more: Any) -> Tensor:
        """Applies gradients as the optimizer does."""
        return self._optimizer.apply_gradients(*given, **more)


class MuonWithAdam(tf.train.Optimizer):  # type: ignore[misc]  # TensorFlow ships no types
    """Trains the kernels of all convolutions but the first with Muon, the rest with Adam."""

    def __init__(self, muon: Muon, adam: Any) -> None:
        """Takes the two optimizers, each with its own rate."""
        super().__init__(use_locking=False, name="MuonWithAdam")
        self._muon = muon
        self._adam = adam

    def apply_gradients(
        self,
        grads_and_vars: Iterable[tuple[Tensor, Tensor]],
        global_step: Tensor | None = None,
        name: str | None = None,
    ) -> Tensor:
        """Builds the op that applies gradients and counts the step, as tf.train.Optimizer's."""
        pairs = list(grads_and_vars)
        updates = [
            optimizer.apply_gradients([p for p in pairs if _is_inner_kernel(p[1]) == inner])
            for optimizer, inner in ((self._muon, True), (self._adam, False))
        ]
        with tf.control_dependencies(updates):
            train_op = tf.assign_add(global_step, 1, name=name).op
        tf.add_to_collection(tf.GraphKeys.TRAIN_OP, train_op)
        return train_op


def _is_inner_kernel(variable: Tensor) -> bool:
    # conv1 has 27 rows, fewer than its 48 columns, and takes in the image itself.
    return bool(variable.shape.rank == 4) and not variable.op.name.startswith("conv1/")


class Muon(tf.train.Optimizer):  # type: ignore[misc]  # TensorFlow ships no types
    """Momentum, orthogonalised: every direction of a kernel learns at one speed.

    Nesterov momentum m <- 0.9 m + g, d = g + 0.9 m; d is taken as a matrix, a row for each input
    of the kernel's window and a column for each output channel, and replaced by about the nearest
    matrix whose singular values are all 1 (`orthogonalised`). Source: K. Jordan and others,
    "Muon: an optimizer for hidden layers in neural networks", 2024.
    """

    MOMENTUM = 0.9

    def __init__(self, learning_rate: float | Callable[[], Tensor]) -> None:
        """Takes a rate, or what computes it when a step is built."""
        super().__init__(use_locking=False, name="Muon")
        self._rate = learning_rate
        self._rate_tensor: Tensor = None

    def _prepare(self) -> None:
        self._rate_tensor = tf.convert_to_tensor(self._call_if_callable(self._rate))

    def _create_slots(self, var_list: list[Tensor]) -> None:
        for variable in var_list:
            self._zeros_slot(variable, "momentum", self._name)

    def _resource_apply_dense(self, gradient: Tensor, variable: Tensor) -> Tensor:
        slot = self.get_slot(variable, "momentum")
        momentum = tf.assign(slot, self.MOMENTUM * slot + gradient)
        direction = gradient + self.MOMENTUM * momentum
        matrix = tf.reshape(direction, [-1, int(variable.shape[-1])])
        update = tf.reshape(orthogonalised(matrix), variable.shape)
        return tf.assign_sub(variable, self._rate_tensor * update)

    _apply_dense = _resource_apply_dense


def orthogonalised(matrix: Tensor) -> Tensor:
    """Brings the singular values of a matrix near 1 and leaves its singular vectors.

    The quintic Newton-Schulz iteration with the coefficients of Muon's authors, chosen for speed:
    three times, it ends between 0.68 and 1.2 for values that begin above 0.02 of the norm. As each
    x becomes x p(x'x), with p a polynomial, the iterations are done on the small product x'x.

    Args:
      matrix: float32 [M, N], best with M >= N: all products but two are of [N, N].

    Returns:
      float32 [M, N]; 0 for 0.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix / (tf.norm(matrix) + 1e-7)
    square = tf.matmul(x, x, transpose_a=True)
    total = one = tf.eye(int(matrix.shape[-1]))
    for _ in range(ITERATIONS):
        factor = a * one + b * square + c * tf.matmul(square, square)
        total = tf.matmul(total, factor)
        square = tf.matmul(factor, tf.matmul(square, factor))
    return tf.matmul(x, total)
