"""Anybody's TensorFlow checkpoint, opened safely."""
