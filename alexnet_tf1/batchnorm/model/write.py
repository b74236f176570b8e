"""Writes repaired models: a checkpoint with its .meta file, or a SavedModel."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow.compat.v1 as tf

from alexnet_tf1 import files
from alexnet_tf1.batchnorm.model.copies import Copy
from alexnet_tf1.batchnorm.model.source import Array, Model
from alexnet_tf1.errors import UserError


def check_free(prefix: str, option: str) -> None:
    """Refuses a place where something is already, before minutes of estimating (UserError)."""
    folder = Path(prefix).parent
    if not folder.is_dir():
        raise UserError(f"{option} {prefix}: {folder} is no folder; make it")
    for suffix in ("", ".index", ".meta"):
        if os.path.lexists(prefix + suffix):
            raise UserError(f"{option} {prefix}: {prefix + suffix} exists; give another name")
    files.check_writable(folder)


def write_checkpoint(model: Model, values: Mapping[str, Array], prefix: str) -> None:
    """Writes the model's checkpoint again, with other values of some variables.

    All else, whatever the checkpoint holds, is copied tensor by tensor, bit for bit, and so is the
    graph. Where a variable was not in the checkpoint, it is now, under its own name.

    Args:
      model: opened from a checkpoint or a SavedModel.
      values: by variable key.
      prefix: of the new checkpoint; see `check_free`.

    Raises:
      UserError: if it cannot be written; nothing is left of it then.
    """
    assert model.checkpoint is not None
    old, new = model.checkpoint, {model.keys.get(key, key): v for key, v in values.items()}
    names = sorted({*old.variables, *new})
    copied = [name for name in names if name not in new]
    with tf.Graph().as_default(), tf.Session() as session:
        target = tf.placeholder(tf.string, [])
        dtypes = [old.variables[name].dtype for name in copied]
        read = (
            tf.raw_ops.RestoreV2(
                prefix=old.prefix,
                tensor_names=copied,
                shape_and_slices=[""] * len(copied),
                dtypes=dtypes,
            )
            if copied
            else []
        )
        tensors: dict[str, Any] = dict(zip(copied, read, strict=True))
        feed: dict[Any, Any] = {}
        for name, value in new.items():
            tensors[name] = tf.placeholder(value.dtype, value.shape)
            feed[tensors[name]] = value
        save = tf.raw_ops.SaveV2(
            prefix=target,
            tensor_names=names,
            shape_and_slices=[""] * len(names),
            tensors=[tensors[name] for name in names],
        )
        place = Path(os.path.abspath(prefix))
        try:
            with files.folder_aside(place) as aside:
                session.run(save, {**feed, target: str(aside / place.name)})
                _write_graph(model, aside / f"{place.name}.meta")
                files.flush_tree(aside)
                # The index, by which a checkpoint is found, comes last.
                for name in sorted(os.listdir(aside), key=lambda name: name.endswith(".index")):
                    os.rename(aside / name, place.parent / name)
                files.flush(place.parent)
        except (OSError, tf.errors.OpError) as error:
            message = getattr(error, "message", None) or files.reason(error)
            reason = message.splitlines()[0]
            raise UserError(f"{prefix} cannot be written ({reason}); free the place") from None


def _write_graph(model: Model, path: Path) -> None:
    """Copies the .meta file as it is; writes one for a graph that lies in another form."""
    if model.graph_file is not None and model.graph_file.suffix == ".meta":
        path.write_bytes(model.graph_file.read_bytes())
        return
    meta = model.source.meta
    if meta is None:
        meta = tf.MetaGraphDef(graph_def=model.source.graph_def)
    path.write_bytes(meta.SerializeToString())


def write_saved_model(
    copy: Copy,
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    constants: Mapping[str, Array],
    folder: str,
) -> None:
    """Writes what a session computes as a SavedModel, its variables' values as constants.

    Args:
      copy: the graph with its values.
      inputs: by the signature's name, the tensors that are fed.
      outputs: and those that are computed.
      constants: values of the tensors that are not fed example by example.
      folder: to be made; see `check_free`.

    Raises:
      UserError: if it cannot be written; nothing is left of it then.
    """
    names = [tensor.partition(":")[0] for tensor in (*outputs.values(), *inputs.values())]
    graph_def = copy.frozen(names)
    with tf.Graph().as_default() as graph, tf.Session(graph=graph) as session:
        held = {
            tensor: tf.constant(value, _dtype(graph_def, tensor))
            for tensor, value in constants.items()
        }
        tf.import_graph_def(graph_def, held, name="")
        signature = tf.saved_model.predict_signature_def(
            {name: graph.get_tensor_by_name(tensor) for name, tensor in inputs.items()},
            {name: graph.get_tensor_by_name(tensor) for name, tensor in outputs.items()},
        )
        key = tf.saved_model.signature_constants.DEFAULT_SERVING_SIGNATURE_DEF_KEY
        try:
            with files.filled_aside(Path(folder)) as filling:
                builder = tf.saved_model.Builder(str(filling))
                builder.add_meta_graph_and_variables(
                    session, [tf.saved_model.tag_constants.SERVING], {key: signature}
                )
                builder.save()
        except (OSError, tf.errors.OpError) as error:
            message = getattr(error, "message", None) or files.reason(error)
            raise UserError(
                f"{folder} cannot be written ({message.splitlines()[0]}); free the place"
            ) from None


def _dtype(graph_def: Any, tensor: str) -> tf.DType:
    """The dtype of a placeholder."""
    name = tensor.partition(":")[0]
    return tf.as_dtype(next(n for n in graph_def.node if n.name == name).attr["dtype"].type)
