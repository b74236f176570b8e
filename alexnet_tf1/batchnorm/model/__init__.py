"""Anybody's TF1 model, run: its gap measured, its averages mended."""
