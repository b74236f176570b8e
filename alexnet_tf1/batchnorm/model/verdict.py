"""Puts a diagnosis into words: what is wrong, in which layer, what to do."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from alexnet_tf1.batchnorm.rules.wording import SAVE_ALL, give_training, some

BATCH, INFERENCE, PRECISE = "batch statistics", "inference", "precise"

# A layer's averages are off when the typical channel's mean is this many standard deviations
# away, or its variance this many times too large or small. Averages in order measured at most
# 0.11 and 1.12 on the real images; averages never updated at least 0.38 and 2.0 (docs/gap.md).
MEAN_OFF, VARIANCE_OFF = 0.3, 1.5
# Accuracies differ when they are this far apart: averages in order and precise statistics differ
# by up to 2.7 points (docs/gap.md). Of few examples, when at least nine answers went from right to
# wrong, and none the other way: nine tosses of a coin agree less than once in 200.
DIFFERENT, ANSWERS = 0.03, 9
# Outputs differ when they lie this part of their spread apart. They are then still correlated by
# 1 - 0.1^2 / 2 = 0.995, so that hardly any decision that is made by them changes. Of N examples,
# when they lie this many times 1 / sqrt(N) apart, by which a mean of N is uncertain: in a small
# network, statistics of 300 out of 600 examples gave outputs 0.11 away from those of all 600.
FAR, UNCERTAIN = 0.1, 3

_NOT_UPDATED = ("BN101", "BN102", "CK101")
_IN_BATCH = ("BN201", "BN203")
# What has a sentence of its own; CK104 and BN202 are measured too, and spoken of if they matter.
_SPOKEN_OF = (*_NOT_UPDATED, *_IN_BATCH, "BN103", "BN202", "CK102", "CK104")


@dataclass(frozen=True)
class Remedies:
    """The remedies for a model's faults, each as the end of a sentence.

    Attributes:
      recalibrate: mends the averages, such as "`alexnet-tf1 recalibrate RUN`".
      update: trains so that the averages are updated.
      alone: makes inference judge each example by itself.
    """

    recalibrate: str
    update: str
    alone: str


def verdict(found: dict[str, Any], remedies: Remedies) -> list[str]:
    """Explains a diagnosis.

    Args:
      found: the content of diagnose.json without its verdict.
      remedies: the commands that apply to the model.

    Returns:
      Sentences, the most serious first. If nothing is wrong, one sentence says so, and what could
      not be checked.
    """
    readings = Readings(found)
    left_out = "; ".join(found.get("left_out", ()))
    measured = [*_averages(found, readings, remedies), *_batches(found, readings, remedies)]
    wrong = [
        *(measured or _unexplained(readings)),
        *_other_faults(found),
        *_side_effects(found),
    ]
    if not found["layers"]:
        wrong.insert(0, "No batch normalisation was found, so none can differ in inference.")
    elif not wrong and left_out:
        return [f"Nothing wrong was found in what could be checked; {left_out}."]
    elif not wrong:
        return [_in_order(found, readings)]
    return [*wrong, *([f"{_capital(left_out)}."] if left_out else [])]


def far_apart(examples: int) -> float:
    """Returns the distance from which on outputs differ, in spreads of the outputs."""
    return float(max(FAR, UNCERTAIN / examples**0.5))


class Readings:
    """Reads the cells of a diagnosis: accuracies, or without labels distances."""

    def __init__(self, found: dict[str, Any]) -> None:
        """Takes a diagnosis."""
        examples = found["examples"] if "examples" in found else found["images"]  # our runs'
        self.size = min(found["batch_size"], examples)
        self._cells = {(c["mode"], c["batch_size"], c["order"]): c for c in found["cells"]}
        self.labelled = self._at(INFERENCE)["accuracy"] is not None
        accuracy = max(DIFFERENT, ANSWERS / examples)
        self._different = accuracy if self.labelled else far_apart(examples)

    def _at(self, mode: str, size: int | None = None, order: str = "stored") -> dict[str, Any]:
        cell: dict[str, Any] = self._cells[mode, self.size if size is None else size, order]
        return cell

    def value(self, mode: str, size: int | None = None, order: str = "stored") -> str:
        """Writes a cell's accuracy in percent, or its distance in spreads of the outputs."""
        return self._written(self._read(self._at(mode, size, order)))

    def _read(self, cell: dict[str, Any]) -> float:
        return float(cell["accuracy" if self.labelled else "distance"])

    def _written(self, reading: float) -> str:
        if self.labelled:
            return f"{100 * reading:.1f}%"
        return f"{reading:.2f}" if reading < 100 else f"{reading:.1e}"

    def modes(self) -> str:
        """Compares the three kinds of statistics."""
        inference, batch, precise = (self.value(mode) for mode in (INFERENCE, BATCH, PRECISE))
        if self.labelled:
            return (
                f"{inference} in inference, {batch} with batch statistics, {precise} with precise "
                "ones"
            )
        return (
            f"in inference the outputs lie {inference} of their spread away from those with "
            f"precise statistics, with batch statistics {batch}"
        )

    def company(self) -> str:
        """Compares what an example gets in inference in different batches."""
        mixed, alike, alone = (
            self.value(INFERENCE, *place)
            for place in ((self.size, "stored"), (self.size, "sorted"), (1, "stored"))
        )
        batches = f"in mixed batches of {self.size}"
        if self.labelled:
            return f"{mixed} {batches}, {alike} sorted by class, {alone} one at a time"
        return (
            f"the outputs lie {mixed} of their spread away from those with precise statistics "
            f"{batches}, {alike} in sorted ones, {alone} one at a time"
        )

    def precise_gain(self) -> float:
        """Returns how much better precise statistics are than inference, in what is different.

        1 or more is better; -1 or less is worse. Without labels, that they differ is the gain.
        """
        inference, precise = (self._read(self._at(mode)) for mode in (INFERENCE, PRECISE))
        gain = precise - inference if self.labelled else inference
        return gain / self._different

    def is_moved(self) -> bool:
        """Returns whether inference answers differently by batch size and order."""
        low, high = self._extremes()
        return bool(high - low > self._different)

    def span(self) -> str:
        """Writes the lowest and the highest reading in inference."""
        low, high = map(self._written, self._extremes())
        return f"from {low} to {high}"

    def _extremes(self) -> tuple[float, float]:
        read = [self._read(cell) for (mode, *_), cell in self._cells.items() if mode == INFERENCE]
        return min(read), max(read)


def _averages(found: dict[str, Any], readings: Readings, remedies: Remedies) -> Iterator[str]:
    """Speaks of moving averages that do not fit, those that were never updated first."""
    off, fit = _split_by_distance(found["layers"])
    unread = _layers_with(found, *_IN_BATCH)  # whatever their averages are, they do no harm
    constant = [name for name in _layers_with(found, "BN103") if name not in unread]
    forgotten = [
        name for name in _layers_with(found, *_NOT_UPDATED) if name not in (*constant, *unread)
    ]
    unsaved = [name for name in _layers_with(found, "CK102") if name not in (*forgotten, *unread)]
    mend = _mend(readings, remedies)
    if bad := [name for name in forgotten if name not in fit]:
        yield (
            f"Training never updated the moving averages of {some(bad)}, and inference reads "
            f"them: {readings.modes()}. {mend}; {remedies.update}."
        )
    elif forgotten:
        yield (
            f"Training never updates the moving averages of {some(forgotten)}, but those of "
            "this checkpoint fit the weights: they were recalibrated, or updated in another way. "
            f"{_capital(remedies.update)}."
        )
    if unsaved:
        yield (
            f"The checkpoint lacks the moving averages of {some(unsaved)}: {readings.modes()}. "
            f"{mend}; {SAVE_ALL}."
        )
    if constant:
        yield (
            f"{some(constant)} {_verb(constant, 'normalise')} with stored averages in training "
            f"too, and nothing updates these: {readings.modes()}. The weights were trained with "
            f"them as they are, so recalibrating would not help; {give_training(constant[0])}, and "
            "train again."
        )
    if lagging := [name for name in off if name not in (*forgotten, *unsaved, *constant, *unread)]:
        longer = ", or train longer" if readings.precise_gain() > -1 else ""
        yield (
            f"The moving averages of {some(lagging)} are {_how_far(found, lagging)}: "
            f"{readings.modes()}. {mend}{longer}."
        )


def _split_by_distance(layers: Sequence[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """Separates the layers whose averages are off from those whose averages fit."""
    rows = [row for row in layers if row["mean_distance"] is not None]
    off = [
        row["name"]
        for row in rows
        if row["mean_distance"] > MEAN_OFF or row["variance_distance"] > VARIANCE_OFF
    ]
    return off, [row["name"] for row in rows if row["name"] not in off]


def _how_far(found: dict[str, Any], lagging: Sequence[str]) -> str:
    """Says what is left of the averages' start, where training's length is known."""
    lags = [row["lag"] for row in found["layers"] if row["name"] in lagging and "lag" in row]
    if not lags:
        return "far from the statistics of these examples"
    return (
        f"updated but far from the population ({100 * max(lags):.0f}% of their initial values is "
        "left)"
    )


def _mend(readings: Readings, remedies: Remedies) -> str:
    """Names the command that mends the checkpoint, if it does."""
    if readings.precise_gain() > -1:
        return f"Mend this checkpoint with {remedies.recalibrate}"
    return (
        f"Recalibrating would not mend this checkpoint ({readings.value(PRECISE)} instead of "
        f"{readings.value(INFERENCE)})"
    )


def _batches(found: dict[str, Any], readings: Readings, remedies: Remedies) -> Iterator[str]:
    """Speaks of layers that normalise with the test batch."""
    if layers := _layers_with(found, *_IN_BATCH):
        yield (
            f"{some(layers)} {_verb(layers, 'normalise')} with the test batch in inference: "
            f"{readings.company()}. {_capital(remedies.alone)}."
        )


def _other_faults(found: dict[str, Any]) -> Iterator[str]:
    """Speaks of faults that the measurements do not show."""
    rules = dict.fromkeys(fault["rule"] for fault in found["faults"])
    for rule in (rule for rule in rules if rule not in _SPOKEN_OF):
        messages = [fault["message"] for fault in found["faults"] if fault["rule"] == rule]
        more = f" ({len(messages)} layers)" if len(messages) > 1 else ""
        yield f"{rule}{more}: {messages[0]}."


def _side_effects(found: dict[str, Any]) -> Iterator[str]:
    if found["changed_variables"]:
        yield f"Evaluating changed {some(found['changed_variables'])}."
    if not found["repeatable"]:
        yield "Evaluating twice gave two answers."


def _unexplained(readings: Readings) -> Iterator[str]:
    """Speaks of what was measured and has no known cause."""
    unknown = "no fault that is known here explains it"
    if readings.is_moved():
        what = "accuracy" if readings.labelled else "distance from precise statistics"
        yield (
            f"In inference the answers depend on the rest of the batch, and {unknown}: by batch "
            f"size and order the {what} is {readings.span()}."
        )
    elif readings.precise_gain() >= 1:
        yield f"Inference and precise statistics differ, and {unknown}: {readings.modes()}."


def _in_order(found: dict[str, Any], readings: Readings) -> str:
    what = f"{readings.value(INFERENCE)} in inference"
    if not readings.labelled:
        what = (
            f"in inference the outputs lie {readings.value(INFERENCE)} of their spread away from "
            "those with precise statistics"
        )
    _, fit = _split_by_distance(found["layers"])
    fits = "the moving averages fit the weights, and " if fit else ""
    return f"In order: {what}, whatever the batch size and order; {fits}evaluating changes nothing."


def _layers_with(found: dict[str, Any], *rules: str) -> list[str]:
    """Lists the layers with a fault of these rules, each once."""
    return list(dict.fromkeys(f["layer"] for f in found["faults"] if f["rule"] in rules))


def _verb(subjects: Sequence[str], plural: str) -> str:
    return plural if len(subjects) > 1 else f"{plural}s"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
