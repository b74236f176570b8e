"""The same network and loop in Keras 3, PyTorch and JAX, for step_time.py; see loops.py.

Each is as fast as its framework makes it: compiled, channels last, with its fused Adam. Each loop
fetches the loss and the accuracy of every step, as the reference does. In bfloat16 are the
products, and what lies between them as far as the framework's automatic casting takes it;
parameters, Adam and the normalisations' statistics stay float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

Run = Callable[[int], None]

KERNELS = {
    "conv1": (3, 3, 3, 48),
    "conv2": (3, 3, 48, 96),
    "conv3": (3, 3, 96, 192),
    "conv4": (3, 3, 192, 192),
    "conv5": (3, 3, 192, 96),
    "dense": (1536, 1024),
    "dense_1": (1024, 1024),
    "dense_2": (1024, 10),
}
NORMALISED = {"conv2": 96, "conv5": 96, "dense": 1024, "dense_1": 1024}  # channels
SHAPES = [
    *KERNELS.values(),
    *((shape[-1],) for shape in KERNELS.values()),  # biases
    *((channels,) for channels in NORMALISED.values() for _ in ("gamma", "beta")),
]


def check_parameters(shapes: Iterable[Iterable[int]]) -> None:
    """Raises ValueError unless these are the shapes of the network's trainable variables."""
    found = sorted(tuple(shape) for shape in shapes)
    if found != sorted(SHAPES):
        count = sum(math.prod(shape) for shape in found)
        raise ValueError(f"{len(found)} variables of {count:,} parameters are another network")


def keras_fit(data: Any, batch_size: int) -> Run:
    """The same network in Keras 3 and its `fit`.

    Its fully connected normalisations keep averages, as Keras has no other.
    """
    import keras
    import tensorflow as tf

    from alexnet_tf1.data.batches import SCALED

    def conv(filters: int, activation: str | None = "relu") -> Any:
        return keras.layers.Conv2D(filters, 3, padding="same", activation=activation)

    class LocalResponseNormalization(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return tf.nn.local_response_normalization(x, 4, 1.0, 0.001 / 9.0, 0.75)

    layers = [
        keras.Input([32, 32, 3]),
        conv(48),
        LocalResponseNormalization(),
        keras.layers.MaxPool2D(),
        conv(96, None),
        keras.layers.BatchNormalization(),
        keras.layers.ReLU(),
        keras.layers.MaxPool2D(),
        conv(192),
        conv(192),
        conv(96),
        keras.layers.BatchNormalization(),
        keras.layers.ReLU(),
        keras.layers.MaxPool2D(),
        keras.layers.Flatten(),
    ]
    for _ in range(2):
        layers += [
            keras.layers.Dense(1024),
            keras.layers.BatchNormalization(momentum=0.9),
            keras.layers.ReLU(),
        ]
    model = keras.Sequential([*layers, keras.layers.Dense(10)])
    check_parameters(variable.shape for variable in model.trainable_variables)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])

    def run(steps: int) -> None:
        examples = steps * batch_size
        images = SCALED[data.train.images[:examples]].reshape(-1, 3, 32, 32)
        labels = data.train.labels[:examples]
        model.fit(images.transpose(0, 2, 3, 1), labels, batch_size, verbose=0)

    return run


def torch_loop(compiled: bool, dtype: str = "float32") -> Callable[[Any, int], Run]:
    """The same network in PyTorch, channels last, eager or through torch.compile."""

    def make(data: Any, batch_size: int) -> Run:
        import torch
        from torch import nn

        from alexnet_tf1.data.batches import Batches

        def conv(channels: int, filters: int, *after: Any) -> list[Any]:
            return [nn.Conv2d(channels, filters, 3, padding=1), *after]

        class LocalResponseNorm(nn.Module):
            """nn.LocalResponseNorm(9, 0.001, 0.75, 1.0), whose sums are slow, as a product."""

            def __init__(self) -> None:
                super().__init__()
                places = torch.arange(48)
                near = (places[:, None] - places).abs() <= 4
                self.register_buffer("near", 0.001 / 9 * near.float())

            def forward(self, x: Any) -> Any:
                sums = (x * x).permute(0, 2, 3, 1) @ self.near
                return x * (1 + sums.permute(0, 3, 1, 2)) ** -0.75

        model = nn.Sequential(
            *conv(3, 48, nn.ReLU(), LocalResponseNorm(), nn.MaxPool2d(2)),
            *conv(48, 96, nn.BatchNorm2d(96, 1e-3, 0.01), nn.ReLU(), nn.MaxPool2d(2)),
            *conv(96, 192, nn.ReLU()),
            *conv(192, 192, nn.ReLU()),
            *conv(192, 96, nn.ReLU(), nn.BatchNorm2d(96, 1e-3, 0.01), nn.ReLU(), nn.MaxPool2d(2)),
            nn.Flatten(),
            *(nn.Linear(1536, 1024), nn.BatchNorm1d(1024, 1e-3, 0.1), nn.ReLU()),
            *(nn.Linear(1024, 1024), nn.BatchNorm1d(1024, 1e-3, 0.1), nn.ReLU()),
            nn.Linear(1024, 10),
        )
        # Kernels are [out, in, height, width] or [out, in] here.
        axes = {1: (0,), 2: (1, 0), 4: (2, 3, 1, 0)}
        check_parameters(p.permute(axes[p.dim()]).shape for p in model.parameters())
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model = model.to(device, memory_format=torch.channels_last)
        optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)

        def forward(x: Any, y: Any) -> tuple[Any, Any]:
            logits = model(x)
            accuracy = (logits.argmax(1) == y).float().mean()
            return nn.functional.cross_entropy(logits, y), accuracy

        mode = "reduce-overhead" if device == "cuda" else "default"  # a CUDA graph of the step
        forward = torch.compile(forward, mode=mode) if compiled else forward
        cast = torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16")
        batches = Batches(data.train, seed=0)

        def run(steps: int) -> None:
            for _ in range(steps):
                images, labels = batches.next_batch(batch_size)
                x = torch.from_numpy(images).to(device).reshape(-1, 3, 32, 32)
                y = torch.from_numpy(labels).to(device)
                with cast:
                    loss, accuracy = forward(x.contiguous(memory_format=torch.channels_last), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                loss.item(), accuracy.item()

        return run

    return make


def jax_network(parameters: Any, averages: Any, images: Any, dtype: Any) -> tuple[Any, Any]:
    """The same network in JAX, training; returns float32 logits and the new moving averages.

    The local response normalisation sums by a product with a banded matrix. The pooling takes
    maxima over a reshaped array, which is faster here than lax.reduce_window.
    """
    import jax
    import jax.numpy as jnp

    updated = {}

    def conv(x: Any, name: str) -> Any:
        kernel = parameters[f"{name}/kernel"].astype(dtype)
        layout = ("NHWC", "HWIO", "NHWC")
        x = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=layout)
        return x + parameters[f"{name}/bias"].astype(dtype)

    def dense(x: Any, name: str) -> Any:
        kernel, bias = (parameters[f"{name}/{part}"].astype(dtype) for part in ("kernel", "bias"))
        return x @ kernel + bias

    def norm(x: Any, name: str, decay: float) -> Any:
        x = x.astype(jnp.float32)
        mean, variance = x.mean(range(x.ndim - 1)), x.var(range(x.ndim - 1))
        pairs = zip(averages[name], (mean, variance), strict=True)
        updated[name] = [decay * a + (1 - decay) * b for a, b in pairs]
        scale = jax.lax.rsqrt(variance + 1e-3) * parameters[f"{name}/gamma"]
        return ((x - mean) * scale + parameters[f"{name}/beta"]).astype(dtype)

    def local_response_norm(x: Any) -> Any:
        places = jnp.arange(x.shape[-1])
        near = jnp.abs(places[:, None] - places) <= 4
        return x * (1 + 0.001 / 9 * (x * x @ near.astype(dtype))) ** -0.75

    def pool(x: Any) -> Any:
        n, height, width, channels = x.shape
        return x.reshape(n, height // 2, 2, width // 2, 2, channels).max((2, 4))

    relu = jax.nn.relu
    x = images.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1).astype(dtype)
    x = pool(local_response_norm(relu(conv(x, "conv1"))))
    x = pool(relu(norm(conv(x, "conv2"), "conv2", 0.99)))
    for name in ("conv3", "conv4", "conv5"):
        x = relu(conv(x, name))
    x = pool(relu(norm(x, "conv5", 0.99))).reshape(len(x), -1)
    for name in ("dense", "dense_1"):
        x = relu(norm(dense(x, name), name, 0.9))
    return dense(x, "dense_2").astype(jnp.float32), updated


def jax_loop(dtype: str) -> Callable[[Any, int], Run]:
    """A jitted step of `jax_network` and optax's Adam."""

    def make(data: Any, batch_size: int) -> Run:
        import jax
        import jax.numpy as jnp
        import optax

        from alexnet_tf1.data.batches import Batches

        keys = jax.random.split(jax.random.key(0), len(KERNELS))
        parameters = {}
        for key, (name, shape) in zip(keys, KERNELS.items(), strict=True):
            parameters[f"{name}/kernel"] = jax.nn.initializers.glorot_uniform()(key, shape)
            parameters[f"{name}/bias"] = jnp.zeros(shape[-1])
        for name, channels in NORMALISED.items():
            parameters[f"{name}/gamma"] = jnp.ones(channels)
            parameters[f"{name}/beta"] = jnp.zeros(channels)
        check_parameters(parameter.shape for parameter in parameters.values())
        averages = {name: [jnp.zeros(c), jnp.ones(c)] for name, c in NORMALISED.items()}
        adam = optax.adam(1e-3)

        def loss_of(parameters: Any, averages: Any, images: Any, labels: Any) -> Any:
            logits, averages = jax_network(parameters, averages, images, jnp.dtype(dtype))
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return losses.mean(), ((logits.argmax(1) == labels).mean(), averages)

        @partial(jax.jit, donate_argnums=0)
        def step(state: Any, images: Any, labels: Any) -> Any:
            parameters, averages, moments = state
            gradients_of = jax.value_and_grad(loss_of, has_aux=True)
            found, gradients = gradients_of(parameters, averages, images, labels)
            loss, (accuracy, averages) = found
            changes, moments = adam.update(gradients, moments)
            return (optax.apply_updates(parameters, changes), averages, moments), loss, accuracy

        state = (parameters, averages, adam.init(parameters))
        batches = Batches(data.train, seed=0)

        def run(steps: int) -> None:
            nonlocal state
            for _ in range(steps):
                state, loss, accuracy = step(state, *batches.next_batch(batch_size))
                float(loss), float(accuracy)

        return run

    return make


PEERS: dict[str, Callable[[Any, int], Run]] = {
    "Keras 3 fit": keras_fit,
    "PyTorch": torch_loop(compiled=False),
    "PyTorch, compiled": torch_loop(compiled=True),
    "PyTorch, compiled, bfloat16": torch_loop(compiled=True, dtype="bfloat16"),
    "JAX": jax_loop("float32"),
    "JAX, bfloat16": jax_loop("bfloat16"),
}
