"""A small program, for tests of what a run does and not of what its network computes.

Of a run of 24 steps of 4 images most of the time goes into the weights (3.3 million of them,
40 MB a checkpoint), and a quarter into Grappler, which rewrites each graph for more steps than
these runs have. What the network computes, with Grappler: tests/test_alexnet.py, tests/fast/ and
tests/test_gap_regression.py.
"""

from alexnet_tf1 import layers, session
from alexnet_tf1.data import synthetic
from alexnet_tf1.distributed import heartbeat
from alexnet_tf1.distributed import train as distributed
from alexnet_tf1.reporting import plots
from support.small_set import TINY

CLASSES, NARROWER = 10, 4  # times


def make_small(put, generate=TINY):
    """Gives every layer a quarter of its outputs, few images, no picture and no Grappler.

    Args:
      put: sets an attribute: a MonkeyPatch's setattr, or the built-in one in a fork.
      generate: what gives the images.
    """
    conv2d, dense, configuration = layers.conv2d, layers.dense, session.configuration

    def unoptimised(*args, **kwargs):
        config = configuration(*args, **kwargs)
        config.graph_options.rewrite_options.disable_meta_optimizer = True
        return config

    def narrow(layer):
        def build(x, size, *args, **kwargs):
            return layer(x, size if size == CLASSES else size // NARROWER, *args, **kwargs)

        return build

    put(layers, "conv2d", narrow(conv2d))
    put(layers, "dense", narrow(dense))
    for module in (session, heartbeat, distributed):
        put(module, "configuration", unoptimised)
    put(synthetic, "generate", generate)
    put(plots, "curves", lambda *_: None)
