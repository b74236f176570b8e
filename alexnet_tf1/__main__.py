"""`python -m alexnet_tf1` is the console script `alexnet-tf1`."""

import sys

from alexnet_tf1.cli.main import main

sys.exit(main())
