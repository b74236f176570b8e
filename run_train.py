"""Trains the network: `python run_train.py [options]` is `alexnet-tf1 train [options]`."""

import sys

from alexnet_tf1.cli.main import main

sys.exit(main(["train", *sys.argv[1:]]))
