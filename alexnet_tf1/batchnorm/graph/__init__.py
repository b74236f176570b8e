"""A graph as one table of nodes: read, flattened, folded, walked."""
