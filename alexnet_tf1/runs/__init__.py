"""A run folder: its files, its lock, its checkpoints, where to go on."""
