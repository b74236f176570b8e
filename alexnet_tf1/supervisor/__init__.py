"""The surroundings of a training loop: lock, data, resumption, saves, tests, signals."""
