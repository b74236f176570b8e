"""A trained run in use: predictions for image files, a SavedModel for servers."""
