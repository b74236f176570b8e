"""The same network and loop in Keras 3 and in PyTorch, for step_time.py; see loops.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Run = Callable[[int], None]


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
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])

    def run(steps: int) -> None:
        examples = steps * batch_size
        images = SCALED[data.train.images[:examples]].reshape(-1, 3, 32, 32)
        labels = data.train.labels[:examples]
        model.fit(images.transpose(0, 2, 3, 1), labels, batch_size, verbose=0)

    return run


def torch_loop(compiled: bool) -> Callable[[Any, int], Run]:
    """The same network in PyTorch, channels last, eager or through torch.compile."""

    def make(data: Any, batch_size: int) -> Run:
        import torch
        from torch import nn

        from alexnet_tf1.data.batches import Batches

        def conv(channels: int, filters: int, *after: Any) -> list[Any]:
            return [nn.Conv2d(channels, filters, 3, padding=1), *after]

        model = nn.Sequential(
            *conv(3, 48, nn.ReLU(), nn.LocalResponseNorm(9, 0.001, 0.75, 1.0), nn.MaxPool2d(2)),
            *conv(48, 96, nn.BatchNorm2d(96, 1e-3, 0.01), nn.ReLU(), nn.MaxPool2d(2)),
            *conv(96, 192, nn.ReLU()),
            *conv(192, 192, nn.ReLU()),
            *conv(192, 96, nn.ReLU(), nn.BatchNorm2d(96, 1e-3, 0.01), nn.ReLU(), nn.MaxPool2d(2)),
            nn.Flatten(),
            *(nn.Linear(1536, 1024), nn.BatchNorm1d(1024, 1e-3, 0.1), nn.ReLU()),
            *(nn.Linear(1024, 1024), nn.BatchNorm1d(1024, 1e-3, 0.1), nn.ReLU()),
            nn.Linear(1024, 10),
        )
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model = model.to(device, memory_format=torch.channels_last)
        optimizer = torch.optim.Adam(model.parameters(), 1e-3)
        forward = torch.compile(model) if compiled else model
        batches = Batches(data.train, seed=0)

        def run(steps: int) -> None:
            for _ in range(steps):
                images, labels = batches.next_batch(batch_size)
                x = torch.from_numpy(images).to(device).reshape(-1, 3, 32, 32)
                y = torch.from_numpy(labels).to(device)
                logits = forward(x.contiguous(memory_format=torch.channels_last))
                loss = nn.functional.cross_entropy(logits, y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                loss.item(), (logits.argmax(1) == y).float().mean().item()

        return run

    return make


PEERS: dict[str, Callable[[Any, int], Run]] = {
    "Keras 3 fit": keras_fit,
    "PyTorch": torch_loop(compiled=False),
    "PyTorch, compiled": torch_loop(compiled=True),
}
