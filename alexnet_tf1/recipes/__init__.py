"""The same network trained better: other optimisers, augmentation, settings."""
