"""The settings of a training run: one frozen, validated dataclass."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, get_args, get_origin, get_type_hints

from alexnet_tf1.errors import UserError

# With the value at which it did nothing, a setting of an earlier version is passed over.
_NO_LONGER_SETTINGS = [("weight_decay", 0)]
_POSITIVE = (
    "steps", "batch_size", "log_every", "test_every", "test_batches", "checkpoint_every", "keep",
    "devices", "worker_timeout",
)  # fmt: skip
MOST = 10**9  # of anything that is counted; TensorFlow counts in 32 bits here and there
FLOAT32_MAX = 3.4e38  # a little less; Adam's rate is a float32 tensor


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The settings of a training run; each field is the option of the same name.

    Attributes:
      dataset: "auto" takes CIFAR-10 where it is or can be had, else the synthetic set.
      data_dir: folder of CIFAR-10; None for $CIFAR10_DIR, else a per-user cache folder. A run on
        CIFAR-10 records the folder that it used.
      steps: training steps.
      batch_size: images a step.
      learning_rate: of Adam, dimensionless.
      seed: fixes data order and initial weights, 0 to 2**31 - 1.
      update_ops: "control" trains under a control dependency on UPDATE_OPS, "none" forgets it.
      fc_batch_norm: "batch", the original's fully connected normalisation; "ema", with moving
        averages in inference.
      log_every: steps between [Train] lines.
      test_every: steps between [Test] lines.
      test_batches: test batches of batch_size in a [Test] line.
      checkpoint_every: steps between checkpoints.
      keep: newest checkpoints kept.
      run_dir: folder for the run; None for a new one under runs/.
      fast: whether steps run in the graph, with ops that round differently (fast/).
      precision: "bfloat16" multiplies so in the convolutions; variables stay float32.
      recipe: whose settings the run began with; see recipes/presets.py.
      optimizer: "adam", or "muon" for the kernels of conv2 to conv5 (recipes/optimizer.py).
      muon_rate: learning rate of Muon, dimensionless.
      kernels: at the start, "random" or "prepared" (recipes/kernels.py); then conv1 is not trained.
      schedule: "constant", or "one-cycle": the rate rises in a line, then falls in one to 0.
      warmup: part of the steps in which a one-cycle rate rises, 0 to 1.
      flip: whether training images are mirrored in every other epoch.
      shift: most pixels by which training images are moved, 0 to 16.
      label_smoothing: part of a training label that is spread over all classes, 0 to 1.
      devices: on which a worker trains, each on its part of the batch: GPUs, or parts of a CPU.
      local_batch_norm: whether each device normalises by its own part of the batch.
      worker_timeout: seconds to wait for a worker that does not come or does not answer.

    Raises:
      UserError: if a value is not one the option allows.
    """

    dataset: Literal["auto", "cifar10", "synthetic"] = "auto"
    data_dir: str | None = None
    steps: int = 10_000
    batch_size: int = 20
    learning_rate: float = 1e-3
    seed: int = 0
    update_ops: Literal["control", "none"] = "control"
    fc_batch_norm: Literal["batch", "ema"] = "batch"
    log_every: int = 500
    test_every: int = 5_000
    test_batches: int = 100
    checkpoint_every: int = 1_000
    keep: int = 3
    run_dir: str | None = None
    fast: bool = False
    precision: Literal["float32", "bfloat16"] = "float32"
    recipe: Literal["original", "quick", "best"] = "original"
    optimizer: Literal["adam", "muon"] = "adam"
    muon_rate: float = 0.02
    kernels: Literal["random", "prepared"] = "random"
    schedule: Literal["constant", "one-cycle"] = "constant"
    warmup: float = 0.25
    flip: bool = False
    shift: int = 0
    label_smoothing: float = 0.0
    devices: int = 1
    local_batch_norm: bool = False
    worker_timeout: int = 120

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for field in dataclasses.fields(self):
            _check_type(field.name, getattr(self, field.name), hints[field.name])
        for name in _POSITIVE:
            value = getattr(self, name)
            if value < 1:
                raise UserError(f"{option(name)} {value} is too small; use at least 1")
            if value > MOST:
                raise UserError(f"{option(name)} {value} is too large; use at most {MOST:,}")
        for name, usual in (("learning_rate", 1e-3), ("muon_rate", 0.02)):
            rate = getattr(self, name)
            if not 0 < rate <= FLOAT32_MAX:  # False for NaN; exact for any integer
                raise UserError(
                    f"{option(name)} {rate} is not a positive float32 number; try {usual}"
                )
        for name, most in (("warmup", 1), ("label_smoothing", 1)):
            if not 0 <= getattr(self, name) < most:
                raise UserError(f"{option(name)} {getattr(self, name)} is not in 0 to {most}")
        if not 0 <= self.shift <= 16:
            raise UserError(f"--shift {self.shift} is not in 0 to 16, half an image")
        if not 0 <= self.seed < 2**31:
            raise UserError(f"--seed {self.seed} is not in 0 to {2**31 - 1}")

    @classmethod
    def from_json(cls, values: Any, source: str) -> TrainConfig:
        """Rebuilds the settings that `dataclasses.asdict` gave.

        A setting that is not there is one that the writing version did not have: its default.

        Raises:
          UserError: if `values` is not an object of this version's settings; it names `source`.
        """
        if isinstance(values, dict):
            values = {k: v for k, v in values.items() if (k, v) not in _NO_LONGER_SETTINGS}
        names = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(values, dict) or not names.issuperset(values):
            raise UserError(
                f"{source} does not hold the settings of a run of this version; "
                "name a folder that `train` wrote"
            )
        try:
            return cls(**values)
        except UserError as error:
            raise UserError(f"{source}: {error}") from None


def option(name: str) -> str:
    """Spells a field as its command-line option: batch_size -> --batch-size."""
    return "--" + name.replace("_", "-")


_TYPES = {int: (int,), float: (int, float), bool: (bool,)}  # a bool is an int to Python


def _check_type(name: str, value: Any, hint: Any) -> None:
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            allowed = ", ".join(get_args(hint))
            raise UserError(f"{option(name)} {value!r} is not one of {allowed}")
        return
    allowed_types = _TYPES.get(hint, (str, type(None)))
    if not isinstance(value, allowed_types) or (isinstance(value, bool) and hint is not bool):
        raise UserError(f"{option(name)} {value!r} is not of the type it takes; see --help")
