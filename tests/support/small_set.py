"""Smaller synthetic sets, for tests of what a run does and not of how well it learns.

Of a run of 24 steps on the whole of it, 60% of the time goes into testing 2,000 images twice.
"""

import functools

from alexnet_tf1.data import synthetic

SMALL = functools.partial(synthetic.generate, train_images=300, test_images=100)
# For batches of 4: 15 of them to train on, 5 to test with.
TINY = functools.partial(synthetic.generate, train_images=60, test_images=20)
