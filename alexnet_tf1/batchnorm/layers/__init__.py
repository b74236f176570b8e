"""Finds the batch normalisations of a graph: by what it computes, not by its names."""
