"""The network, the weights and the data of a run on disk."""

import sys
from pathlib import Path
from typing import Any

import tensorflow.compat.v1 as tf

from alexnet_tf1.alexnet import AlexNet, build_alexnet
from alexnet_tf1.checkpoint.reader import Checkpoint, Variable
from alexnet_tf1.config import TrainConfig
from alexnet_tf1.data.dataset import Dataset
from alexnet_tf1.data.load import load_dataset
from alexnet_tf1.errors import UserError
from alexnet_tf1.fast.kernels import ops_for
from alexnet_tf1.recipes.optimizer import optimizer_for
from alexnet_tf1.runs import folder as runs
from alexnet_tf1.system.terminal import show


def build_network(config: TrainConfig) -> AlexNet:
    """Builds a run's network in the current graph, as build_alexnet does."""
    return build_alexnet(
        config.update_ops,
        config.fc_batch_norm,
        optimizer=optimizer_for(config),
        label_smoothing=config.label_smoothing,
        ops=ops_for(config),
    )


def restore(session: Any, net: AlexNet, checkpoint: str) -> None:
    """Restores what the forward pass reads, and all else that the checkpoint has.

    A checkpoint of either `fc_batch_norm` fits a graph of the other: they differ only in what
    their moving averages need while training, and that may be missing here.

    Raises:
      UserError: if the checkpoint is damaged or of another network.
    """
    remedy = "name a checkpoint that `train` wrote"
    try:
        saved = Checkpoint(checkpoint).variables  # looks before TensorFlow's reader does
        shapes = {name: list(variable.shape) for name, variable in saved.items()}
        present = [v for v in tf.global_variables() if v.op.name in shapes]
        averages = [v for norm in net.norms for v in (norm.moving_mean, norm.moving_variance)]
        for variable in [*tf.trainable_variables(), *averages]:
            found = shapes.get(variable.op.name, "missing")
            if found != variable.shape.as_list():
                raise UserError(
                    f"{checkpoint} is of another network: {variable.op.name} is {found}, not "
                    f"{variable.shape}; {remedy}"
                )
        session.run(tf.global_variables_initializer())
        tf.train.Saver(present).restore(session, checkpoint)
    except (tf.errors.OpError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{checkpoint} cannot be read ({reason}); {remedy}") from None


def restore_all(session: Any, saver: Any, checkpoint: str) -> None:
    """Restores every variable of the graph, as training that goes on needs them.

    Raises:
      UserError: if the checkpoint lacks one, or has it in another shape or type.
    """
    saved = Checkpoint(checkpoint).variables
    for variable in tf.global_variables():
        needed = Variable(variable.dtype.base_dtype, tuple(variable.shape.as_list()))
        found = saved.get(variable.op.name)
        if found != needed:
            said = f"{found.dtype.name} {list(found.shape)}" if found else "missing"
            raise UserError(
                f"{checkpoint} is not of this run: {variable.op.name} is {said}, not "
                f"{needed.dtype.name} {list(needed.shape)}; remove it, or restore it from a copy"
            )
    saver.restore(session, checkpoint)


def load_data(run: runs.Run, data_dir: str | None) -> Dataset:
    """Loads the data set that a run was trained on; `data_dir` overrides the run's folder."""
    folder = data_dir or run.config.data_dir
    return load_dataset(
        run.config.dataset,
        Path(folder) if folder else None,
        announce=lambda line: show(line, sys.stderr),
    )


def describe(data: Dataset) -> dict[str, Any]:
    """Describes the data set as results do: name, verified, and how many images."""
    return {
        "name": data.name,
        "verified": data.verified,
        "train_images": len(data.train.labels),
        "test_images": len(data.test.labels),
    }
