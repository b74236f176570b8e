"""Anybody's model, run: its gap measured, its statistics estimated, its checkpoint repaired."""
