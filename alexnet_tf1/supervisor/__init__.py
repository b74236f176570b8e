"""What surrounds a training loop: lock, data, resumption, saves, tests, signals."""
