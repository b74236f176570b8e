"""The settings of each recipe: the same network, trained better.

A recipe sets what stands here in the place of the defaults, which are the original's. Every entry
can be given as an option of its own, which then counts. docs/recipes.md has what each of them
gains.
"""

from collections.abc import Mapping
from typing import Any

from alexnet_tf1.config import TrainConfig

_SHORT_AND_GOOD: dict[str, Any] = {
    "fc_batch_norm": "ema",  # accuracy that holds for one image at a time
    "optimizer": "muon",
    "schedule": "one-cycle",
    "flip": True,
    "fast": True,
    "precision": "bfloat16",
}
RECIPES: dict[str, dict[str, Any]] = {
    "original": {},
    "quick": {
        **_SHORT_AND_GOOD,
        "kernels": "prepared",
        "batch_size": 50,
        "steps": 780,
        "learning_rate": 3e-3,
        "warmup": 0.1,
        "test_batches": 40,  # the original's 2,000 images
        "log_every": 130,
        "test_every": 780,
    },
    "best": {
        **_SHORT_AND_GOOD,
        "batch_size": 100,
        "steps": 3_600,
        "learning_rate": 2e-3,
        "muon_rate": 0.03,
        "label_smoothing": 0.1,
        "shift": 2,
        "test_batches": 20,
        "log_every": 100,
        "test_every": 1_200,
    },
}


def settings_from(given: Mapping[str, Any]) -> TrainConfig:
    """Completes the options that were given, by field name, with those of their recipe.

    Raises:
      UserError: if a value is not one the option allows.
    """
    recipe = given.get("recipe", "original")
    return TrainConfig(**{**RECIPES.get(recipe, {}), **given})
