"""What the recipes put in the place of plain Adam: a changing rate, Muon, smoothing, decay."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow.compat.v1 as tf

from alexnet_tf1.config import TrainConfig
from alexnet_tf1.fast.kernels import Tensor


class Optimization(NamedTuple):
    """How a step changes the weights; the defaults are the original's: Adam at a constant rate.

    Attributes:
      cycle: steps in which the rates rise and come down to 0; None for constant rates.
      warmup: part of them in which they rise.
      label_smoothing: part of a label that is spread over all classes.
      weight_decay: of the kernels, times the rate of Adam, per step; decoupled (Loshchilov and
        Hutter, 2019).
      muon_rate: of `Muon`, for the kernels of the convolutions but the first; 0 leaves them to
        Adam.
    """

    cycle: int | None = None
    warmup: float = 0.25
    label_smoothing: float = 0.0
    weight_decay: float = 0.0
    muon_rate: float = 0.0

    @classmethod
    def of(cls, config: TrainConfig) -> Optimization:
        """What a run's settings ask for."""
        return cls(
            cycle=config.steps if config.schedule == "one-cycle" else None,
            warmup=config.warmup,
            label_smoothing=config.label_smoothing,
            weight_decay=config.weight_decay,
            muon_rate=config.muon_rate if config.optimizer == "muon" else 0.0,
        )

    def loss(self, labels: Tensor, logits: Tensor) -> Tensor:
        """Mean softmax cross-entropy in nats: int64 [N] and float32 [N, C] -> float32 []."""
        if not self.label_smoothing:
            return tf.losses.sparse_softmax_cross_entropy(labels, logits, scope="loss")
        targets = tf.one_hot(labels, int(logits.shape[-1]))
        return tf.losses.softmax_cross_entropy(
            targets, logits, label_smoothing=self.label_smoothing, scope="loss"
        )

    def rate(self, most: float, global_step: Tensor) -> Tensor | float:
        """The learning rate of the step that comes next.

        Args:
          most: its largest value, dimensionless.
          global_step: int64 [], steps taken.

        Returns:
          `most`, or float32 []: in step s of a cycle of S, counted from 1, the smaller of
          most * s / (warmup * (S + 1)) and most * (1 - s / (S + 1)) / (1 - warmup).
        """
        if self.cycle is None:
            return most
        done = (tf.cast(global_step, tf.float32) + 1) / (self.cycle + 1)
        falling = (1 - done) / (1 - self.warmup)
        return most * (tf.minimum(done / self.warmup, falling) if self.warmup else falling)

    def minimize(self, loss: Tensor, global_step: Tensor, learning_rate: float) -> Tensor:
        """Builds the op that trains one step and counts it.

        Args:
          loss: float32 [].
          global_step: int64 variable [].
          learning_rate: of Adam, the largest where it changes.

        Returns:
          The op, named train_op.
        """
        rate = self.rate(learning_rate, global_step)
        adam = tf.train.AdamOptimizer(rate)
        if not self.weight_decay and not self.muon_rate:
            return adam.minimize(loss, global_step, name="train_op")
        gradients = adam.compute_gradients(loss)
        # Gradients are of the weights before the decay, whatever order a session would choose.
        with tf.control_dependencies([gradient for gradient, _ in gradients]):
            decay = tf.group(*self._decays(gradients, rate))
        with tf.control_dependencies([decay]):
            others = [pair for pair in gradients if not self._is_muon_s(pair[1])]
            updates = [adam.apply_gradients(others)]
            if self.muon_rate:
                muon = Muon(self.rate(self.muon_rate, global_step))
                updates.append(muon.apply_gradients(p for p in gradients if self._is_muon_s(p[1])))
        with tf.control_dependencies(updates):
            return tf.assign_add(global_step, 1, name="train_op").op

    def _decays(self, gradients: list[tuple[Tensor, Tensor]], rate: Tensor | float) -> list[Tensor]:
        if not self.weight_decay:
            return []
        kernels = [variable for _, variable in gradients if variable.shape.rank > 1]
        return [tf.assign_sub(kernel, rate * self.weight_decay * kernel) for kernel in kernels]

    def _is_muon_s(self, variable: Tensor) -> bool:
        # conv1 has 27 rows, fewer than its 48 columns, and takes in the image itself.
        rank, first = variable.shape.rank, variable.op.name.startswith("conv1/")
        return bool(self.muon_rate and rank == 4 and not first)


class Muon(tf.train.Optimizer):  # type: ignore[misc]  # TensorFlow ships no types
    """Momentum, orthogonalised: every direction of a kernel learns at one speed.

    Nesterov momentum m <- 0.9 m + g, d = g + 0.9 m; d is taken as a matrix, a row for each input
    of the kernel's window and a column for each output channel, and replaced by about the nearest
    matrix whose singular values are all 1 (`orthogonalised`). Source: K. Jordan and others,
    "Muon: an optimizer for hidden layers in neural networks", 2024.
    """

    MOMENTUM = 0.9

    def __init__(self, learning_rate: Tensor | float, name: str = "Muon") -> None:
        super().__init__(use_locking=False, name=name)
        self._rate = learning_rate

    def _create_slots(self, var_list: list[Tensor]) -> None:
        for variable in var_list:
            self._zeros_slot(variable, "momentum", self._name)

    def _resource_apply_dense(self, gradient: Tensor, variable: Tensor) -> Tensor:
        slot = self.get_slot(variable, "momentum")
        momentum = tf.assign(slot, self.MOMENTUM * slot + gradient)
        direction = gradient + self.MOMENTUM * momentum
        matrix = tf.reshape(direction, [-1, int(variable.shape[-1])])
        update = tf.reshape(orthogonalised(matrix), variable.shape)
        return tf.assign_sub(variable, self._rate * update)

    _apply_dense = _resource_apply_dense


def orthogonalised(matrix: Tensor, steps: int = 5) -> Tensor:
    """Brings the singular values of a matrix near 1 and leaves its singular vectors.

    The quintic Newton-Schulz iteration with the coefficients of Muon's authors, chosen for speed:
    it ends between 0.7 and 1.2, not at 1, for values that begin above 0.005 of the norm.

    Args:
      matrix: float32 [M, N], best with M >= N: the products are then with [N, N].
      steps: iterations.

    Returns:
      float32 [M, N]; 0 for 0.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix / (tf.norm(matrix) + 1e-7)
    for _ in range(steps):
        square = tf.matmul(x, x, transpose_a=True)
        x = a * x + tf.matmul(x, b * square + c * tf.matmul(square, square))
    return x
