"""Batch-normalisation tools for anybody's TF1 graph; imports nothing of the rest."""
