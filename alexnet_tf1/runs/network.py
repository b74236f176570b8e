"""The network, the weights and the data of a run on disk."""

import os
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
from alexnet_tf1.runs import recovery
from alexnet_tf1.runs.resume import check_data_dir
from alexnet_tf1.system.terminal import show, spelt_out


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
    # As `train --resume` does: a restore would say "Graph execution error" and name no variable.
    if wrong := recovery.problem(checkpoint):
        raise UserError(
            f"{checkpoint} is damaged ({wrong}); name another with --checkpoint, or restore it "
            "from a copy"
        )
    try:
        saved = Checkpoint(checkpoint).variables
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


def restore_chosen(session: Any, net: AlexNet, run: runs.Run, chosen: str | None) -> str:
    """Restores a checkpoint of a run as `restore` does; returns its prefix.

    A run that is being trained removes its older checkpoints. Where that came before the newest
    was read, the next one is taken.

    Args:
      session: in the graph of the network.
      net: the network.
      run: the run.
      chosen: as `Run.checkpoint` takes it.

    Raises:
      UserError: as `restore` and `Run.checkpoint`.
    """
    path = run.checkpoint(chosen)
    while True:
        try:
            restore(session, net, path)
            return path
        except UserError:
            is_there, path = os.path.isfile(f"{path}.index"), run.checkpoint(chosen)
            if is_there:
                raise


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
    """Loads the data set that a run was trained on; `data_dir` overrides the run's folder.

    Raises:
      UserError: if the images cannot be used, or are not in the folder that the run names.
    """
    if data_dir is None:
        check_data_dir(run.config)
    folder = data_dir or run.config.data_dir
    return load_dataset(
        run.config.dataset,
        Path(folder) if folder else None,
        announce=lambda line: show(spelt_out(line), sys.stderr),
    )


def describe(data: Dataset) -> dict[str, Any]:
    """Describes the data set as results do: name, verified, and how many images."""
    return {
        "name": data.name,
        "verified": data.verified,
        "train_images": len(data.train.labels),
        "test_images": len(data.test.labels),
    }
