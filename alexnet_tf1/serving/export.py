"""Writes a trained run as a SavedModel: raw images in, probabilities and classes out."""

import contextlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow.compat.v1 as tf

from alexnet_tf1 import files, norms
from alexnet_tf1.alexnet import AlexNet, inference
from alexnet_tf1.checkpoint.reader import Checkpoint
from alexnet_tf1.data import synthetic
from alexnet_tf1.data.batches import SCALED
from alexnet_tf1.errors import UserError
from alexnet_tf1.ops import Tensor
from alexnet_tf1.runs import folder as runs
from alexnet_tf1.runs import network
from alexnet_tf1.serving import servable
from alexnet_tf1.session import open_session, set_variables

TAG = tf.saved_model.tag_constants.SERVING
SIGNATURE = tf.saved_model.signature_constants.DEFAULT_SERVING_SIGNATURE_DEF_KEY
INPUT, OUTPUTS = "images", ("probabilities", "classes")
CLASS_NAMES_FILE = Path("assets.extra") / "class_names.txt"
TFLITE_FILE = "model.tflite"
PROBES = 100  # images that a TFLite model and the session must agree on
_VARIABLES = (tf.GraphKeys.GLOBAL_VARIABLES, tf.GraphKeys.TRAINABLE_VARIABLES)


def export(
    run_dir: str, target: str, *, checkpoint: str | None = None, tflite: bool = False
) -> dict[str, Any]:
    """Writes a run's network as a SavedModel for inference, whole or not at all.

    It computes in float32 with TensorFlow's own ops, whatever the run was trained with. All four
    normalisations read moving averages or recalibrated statistics, so the answer to an image does
    not depend on the images it is sent with. `assets.extra/class_names.txt` holds the name of
    class 0 in its first line, of class 9 in its tenth.

    Args:
      run_dir: the run folder.
      target: folder to write; it must not be there, or be empty.
      checkpoint: a checkpoint's prefix or step; None for the newest.
      tflite: whether to write model.tflite into the folder too.

    Returns:
      A JSON-ready dict: run, checkpoint, steps, directory, signature (name, tag, inputs and
      outputs by name with dtype and shape), fc_batch_norm ("ema"), statistics ("moving averages"
      or "recalibrated"), start_left (the largest share of its initial value left in a moving
      average, 0 to 1), class_names, tflite (its path, or None).

    Raises:
      UserError: if the run or checkpoint cannot be used, its statistics are not fit to be read
        in inference, or the folder cannot be written.
    """
    run = runs.open_run(run_dir)
    place = _check_target(target)
    path = run.checkpoint(checkpoint)
    statistics = servable.statistics(run, path)
    names = servable.CLASS_NAMES[servable.dataset_name(run)]
    with tf.Graph().as_default() as graph, open_session() as session:
        _build()
        recorded = norms.recorded(graph)
        # Of a network, restoring looks at the normalisations only; the rest is for training.
        network.restore(session, AlexNet._make([*[None] * 10, recorded]), path)
        served, variables = _cut_out(graph)
        values = session.run(variables)
    if not all(np.isfinite(value).all() for value in values.values()):
        raise UserError(f"{path} holds weights that are not finite; the run diverged: train anew")
    with _aside(place) as folder:
        with tf.Graph().as_default(), open_session() as session:
            saver = _load(session, served, values)
            signature = _write(session, saver, folder)
        _write_class_names(folder, names)
        if tflite:
            _write_tflite(folder)
    steps = int(Checkpoint(path).read("global_step"))
    start_left = max(norm.decay for norm in recorded) ** steps
    return {
        "run": run_dir,
        "checkpoint": path,
        "steps": steps,
        "directory": target,
        "signature": signature,
        "fc_batch_norm": "ema",
        "statistics": statistics,
        "start_left": 0.0 if statistics == servable.RECALIBRATED else start_left,
        "class_names": list(names),
        "tflite": str(Path(target) / TFLITE_FILE) if tflite else None,
    }


def _build() -> None:
    """Builds the network from raw images to answers, in inference only: it has no is_training.

    The input takes uint8 [N, 32, 32, 3], red, green, blue; the outputs are float32 [N, 10] and
    int64 [N].
    """
    images = tf.placeholder(tf.uint8, [None, 32, 32, 3], name=INPUT)
    # Looked up, not computed: this gives the bits of training, see SCALED.
    scaled = tf.gather(tf.constant(SCALED), tf.cast(images, tf.int32))
    channel_major = tf.reshape(tf.transpose(scaled, [0, 3, 1, 2]), [-1, 3072])
    logits = inference(channel_major, False, "ema")
    tf.nn.softmax(logits, name=OUTPUTS[0])
    tf.argmax(logits, 1, name=OUTPUTS[1])


def _cut_out(graph: Any) -> tuple[Any, dict[str, Any]]:
    """Cuts out of a graph what the answers need: a MetaGraphDef, and the variables by name.

    A moving average comes with ops that update it and counters for them; a graph that is served
    must not hold them. What initialises a variable stays, as no variable can be described
    without it.
    """
    graph_def = graph.as_graph_def(add_shapes=True)
    needed = {node.name for node in tf.graph_util.extract_sub_graph(graph_def, OUTPUTS).node}
    variables = {v.op.name: v for v in tf.global_variables() if v.handle.op.name in needed}
    for key in _VARIABLES:
        collected = graph.get_collection_ref(key)
        collected[:] = [v for v in collected if v.op.name in variables]
    described = [v.to_proto() for v in variables.values()]
    tensors = [name for d in described for name in (d.initializer_name, d.snapshot_name)]
    keep = [name.partition(":")[0] for name in [INPUT, *OUTPUTS, *tensors]]
    served = tf.graph_util.extract_sub_graph(graph_def, keep)
    return tf.train.export_meta_graph(graph_def=served, collection_list=_VARIABLES), variables


def _load(session: Any, served: Any, values: dict[str, Any]) -> Any:
    """Imports a cut-out graph, gives its variables their values, and returns their Saver."""
    saver = tf.train.import_meta_graph(served)
    variables = tf.global_variables()
    set_variables(session, variables, [values[variable.op.name] for variable in variables])
    return saver


def _write(session: Any, saver: Any, folder: Path) -> dict[str, Any]:
    """Writes the SavedModel and describes its signature."""
    inputs, outputs = (
        {name: session.graph.get_tensor_by_name(f"{name}:0") for name in names}
        for names in ([INPUT], OUTPUTS)
    )
    builder = tf.saved_model.Builder(str(folder))
    builder.add_meta_graph_and_variables(
        session,
        [TAG],
        {SIGNATURE: tf.saved_model.predict_signature_def(inputs, outputs)},
        strip_default_attrs=True,
        saver=saver,
    )
    builder.save()

    def described(ends: dict[str, Tensor]) -> dict[str, Any]:
        return {n: {"dtype": t.dtype.name, "shape": t.shape.as_list()} for n, t in ends.items()}

    inputs, outputs = described(inputs), described(outputs)
    return {"name": SIGNATURE, "tag": TAG, "inputs": inputs, "outputs": outputs}


def _write_class_names(folder: Path, names: tuple[str, ...]) -> None:
    """Writes the names where SavedModel leaves room for users' own files."""
    path = folder / CLASS_NAMES_FILE
    path.parent.mkdir()
    path.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def _write_tflite(folder: Path) -> None:
    """Converts the SavedModel in `folder`, and compares the answers on drawn pictures."""
    drawn = synthetic.generate(train_images=1, test_images=PROBES).test.images
    images = np.ascontiguousarray(drawn.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    with tf.Graph().as_default(), open_session() as session:
        tf.saved_model.load(session, [TAG], str(folder))
        expected = session.run(f"{OUTPUTS[1]}:0", {f"{INPUT}:0": images})
    try:
        model = _converted(folder)
        found = classes_by_tflite(model, images)
    except Exception as error:  # what the converter raises is documented nowhere
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"--tflite: TensorFlow's converter does not take this network ({reason}); leave it out"
        ) from None
    differing = int((found != expected).sum())
    if differing:
        raise UserError(
            f"--tflite: the converted model answers {differing} of {len(images)} images "
            "differently; leave it out"
        )
    (folder / TFLITE_FILE).write_bytes(model)


def _converted(folder: Path) -> bytes:
    """Converts to TFLite, with its own ops only and none of TensorFlow's ("flex")."""
    from tensorflow import lite

    converter = lite.TFLiteConverter.from_saved_model(str(folder), signature_keys=[SIGNATURE])
    return bytes(converter.convert())


def classes_by_tflite(model: bytes, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Classifies uint8 [N, 32, 32, 3] with a TFLite model: int64 [N]."""
    from tensorflow import lite

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the interpreter moves to a package of its own
        # Without the delegate, which announces itself on the console.
        plain = lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        interpreter = lite.Interpreter(model_content=model, experimental_op_resolver_type=plain)
    classify = interpreter.get_signature_runner(SIGNATURE)
    return np.asarray(classify(**{INPUT: images})[OUTPUTS[1]])


def _check_target(target: str) -> Path:
    """Finds out before any work whether a folder may be written there."""
    try:
        place = Path(os.path.realpath(target))
        if os.path.lexists(place) and not place.is_dir():
            raise UserError(f"{target} is a file; name a new folder to export to")
        if place.is_dir() and any(place.iterdir()):
            raise UserError(f"{target} is not empty; name a new folder to export to")
        if os.path.ismount(place):
            raise UserError(
                f"{target} is a mount point and cannot be replaced; name a folder in it"
            )
        if place == Path.cwd():
            raise UserError(f"{target} is the folder you are in; name a new one to export to")
    except (OSError, ValueError) as error:
        raise _unwritable(target, error) from None
    return place


@contextlib.contextmanager
def _aside(place: Path) -> Iterator[Path]:
    """Gives a folder to fill that becomes `place`; after an error nothing of it is left."""
    made: list[Path] = []
    try:
        made = files.make_folders(place.parent)
        with files.filled_aside(place) as folder:
            yield folder
    except (OSError, tf.errors.OpError) as error:
        raise _unwritable(str(place), error) from None
    finally:
        files.remove_empty(made)


def _unwritable(target: str, error: Exception) -> UserError:
    reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
    return UserError(f"{target} cannot be written ({reason}); name another folder")
