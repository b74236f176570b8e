"""Uses a trained run: predictions for image files, a SavedModel for servers."""
