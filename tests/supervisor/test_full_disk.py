"""What a full disk makes of the event file, and of what TensorFlow says of it."""

import resource
import threading

import pytest
import tensorflow.compat.v1 as tf

from alexnet_tf1.cli.commands import import_tensorflow
from alexnet_tf1.supervisor.run import _reason
from alexnet_tf1.supervisor.tensorboard import TRAINED, Events


def test_an_event_file_that_cannot_grow_is_the_system_s_error(tmp_path, capfd):
    import_tensorflow()
    before = threading.excepthook
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))

    def write():
        with tf.Graph().as_default() as graph, Events(tmp_path, graph) as events:
            for step in range(100):
                events.trained(step, dict.fromkeys(TRAINED, 1.0))

    try:
        with pytest.raises(OSError, match="File too large"):
            write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert capfd.readouterr() == ("", "")  # no traceback of TensorFlow's thread
    assert threading.excepthook is before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("/run/model.ckpt-2.data; No space left on device", "No space left on device"),
        (
            "Graph execution error:\n\nDetected at node 'save/SaveV2'\n"
            "run/model.ckpt-2.data; No space left on device\n\t [[{{node save/SaveV2}}]]",
            "No space left on device",
        ),
        (
            "Graph execution error:\n\nDetected at node 'x'\nno words of the system's",
            "UnknownError",
        ),
    ],
)
def test_the_reason_is_in_the_system_s_words(text, said):
    assert _reason(tf.errors.UnknownError(None, None, text)) == said
