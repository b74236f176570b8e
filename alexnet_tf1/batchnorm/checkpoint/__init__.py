"""Tells by their names and values which variables of a checkpoint are moving statistics."""
