"""One training step taken by several devices, processes or machines."""
