"""Finds the variables of a checkpoint's batch normalisations by their names alone.

A checkpoint has no graph; what a variable is for can only be told from its name and from the
variables beside it. The names understood here:

    moving_mean, moving_variance             tf.layers, Keras, slim's BatchNorm, sonnet 1
    running_mean, running_var, pop_mean ...  PyTorch's names, hand-written layers
    mean/EMA, variance/EMA                   tensorpack
    moments/Squeeze/ExponentialMovingAverage, .../Squeeze_1/..., moments_1/mean/... ,
    FusedBatchNormV3/ExponentialMovingAverage[_1]         tf.train.ExponentialMovingAverage
    moving_mean/average, moving_mean/counter              sonnet 2
    mean, variance                           only beside gamma and beta, or scale and offset

Optimizer slots (gamma/Adam) and averages of variables (gamma/ExponentialMovingAverage,
moving_mean/ExponentialMovingAverage) end otherwise and are neither layers nor statistics.
"""

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Role = Literal["mean", "variance", "std", "renorm_mean", "renorm_stddev"]
_ORDER: tuple[Role, ...] = ("mean", "variance", "std", "renorm_mean", "renorm_stddev")

_OBJECT_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"  # of tf.train.Checkpoint and SavedModels
_MEAN_OR_SPREAD = r"mean|mu|variance|var|stddev|std"
_KEPT = "moving|mov|running|pop|population|ema|global|avg|average|accumulated|accu|estimated"
_STATISTIC = re.compile(
    rf"(?:(?P<prefix>.+?)_)?(?:(?P<kept>{_KEPT})_?(?:avg_|average_|batch_)?(?P<a>{_MEAN_OR_SPREAD})"
    rf"|(?P<b>{_MEAN_OR_SPREAD})_(?:ema|avg|average|moving|running|pop))(?:_(?P<n>\d+))?",
    re.IGNORECASE,
)
_AFFINE = re.compile(
    r"(?:(?P<prefix>.+?)_)?(?P<role>gamma|beta|scale|shift|offset)(?:_(?P<n>\d+))?"
)
_PLAIN = re.compile(r"(?P<a>mean|variance|var)")
_MOMENTS_AVERAGE = re.compile(
    r"(?:(?P<scope>.+?)/)?[^/]*?moments(?:_(?P<n>\d+))?(?:/(?:moments|normalize)(?:_\d+)?)?"
    r"/(?P<a>Squeeze|Squeeze_1|mean|variance)/[^/]+"
)
_FUSED_AVERAGE = re.compile(
    r"(?:(?P<scope>.+)/)?FusedBatchNorm(?:V\d)?(?:_(?P<n>\d+))?"
    r"/(?P<a>ExponentialMovingAverage|ExponentialMovingAverage_1)"
)
_NAMED_AVERAGE = re.compile(
    r"(?:(?P<scope>.+)/)?(?:batch_)?(?P<a>mean|variance|var)(?:_(?P<n>\d+))?"
    r"/ExponentialMovingAverage"
)
_VARIANCES = {"variance", "var", "Squeeze_1", "ExponentialMovingAverage_1"}
_USUAL = re.compile(r"(?:moving|running)_(?:mean|var|variance)(?:_\d+)?")

_BATCH_NORM = re.compile(r"batch_?norm|bnorm|(?:^|[^a-z]|conv|fc|c)bns?(?![a-z])", re.IGNORECASE)
_OTHER_NORM = re.compile(
    r"(?:layer|instance|group|rms|weight|pixel|spectral|adaptive|filter_?response)_?norm"
    r"|actnorm|ada_?in|spade|(?:^|_)(?:ln|gn|in)(?:_?\d+)?(?:_|$)|LayerNorm",
    re.IGNORECASE,
)
_OPTIMIZERS = re.compile(
    r"(?:Adam|AdamW|Nadam|RMSprop|RMSProp|Momentum|SGD|Adagrad|Adadelta|Ftrl|LAMB|_?optimizer)(_\d+)?"
)


class Statistic(NamedTuple):
    """One moving statistic, by name."""

    variable: str  # its key in the checkpoint
    role: Role  # what is averaged
    # True if a variance kept this way starts at 0, as an ExponentialMovingAverage of a tensor does,
    # False if at 1, None if either is usual
    zero_start: bool | None
    usual: bool  # whether the spelling alone says batch normalisation
    # keys under which the number of updates may be found, the likeliest first
    counters: tuple[str, ...]


@dataclass
class LayerVariables:
    """The variables of one normalisation layer."""

    name: str = ""  # its scope, e.g. "batch_normalization_1"
    affine: list[str] = field(default_factory=list)  # the keys of gamma, beta and the like
    # its moving statistics, the mean first
    statistics: list[Statistic] = field(default_factory=list)
    # averages that the graph beside the checkpoint has and the checkpoint has not
    unsaved: list[str] = field(default_factory=list)
    accumulates: bool = False  # whether it keeps sums instead (BigGAN's accumulators); not judged

    def is_pair(self) -> bool:
        """Tells whether a mean and a variance are there."""
        return bool(self.find("mean") and self.find("variance", "std"))

    def find(self, *roles: Role) -> Statistic | None:
        """The first statistic in one of these roles."""
        return next((found for found in self.statistics if found.role in roles), None)


_Key = tuple[str, str]  # scope and number, e.g. ("bn", "1") of bn/gamma_1


def layers(shapes: Mapping[str, tuple[int, ...]]) -> list[LayerVariables]:
    """Groups the normalisation layers of a checkpoint, given its variables' shapes by their keys.

    They are the layers with moving statistics, and those with gamma or beta and none, in the
    order of their first variables' names.
    """
    groups: dict[_Key, LayerVariables] = {}
    rest = []
    for key in itertools.filterfalse(_in_optimizer, shapes):
        match = _AFFINE.fullmatch(_leaf(key)) if shapes[key] else None
        if match:
            group = (_split(key, match["prefix"]), match["n"] or "")
            groups.setdefault(group, LayerVariables()).affine.append(key)
        else:
            rest.append(key)
    plain: dict[_Key, list[Statistic]] = {}
    for key in rest:
        found = _statistic(key, shapes, groups)
        if found and _PLAIN.fullmatch(_leaf(key)):
            plain.setdefault(found[0], []).append(found[1])
        elif found:
            _add(groups, *found)
    for group, pair in plain.items():
        # "mean" and "variance" are anybody's words: they count together, beside gamma or beta.
        if group in groups and not groups[group].statistics and len(pair) == 2:
            groups[group].statistics.extend(pair)
    _join_lone_pairs(groups)
    for group, layer in groups.items():
        layer.name = _layer_name(group, layer, groups)
        layer.statistics.sort(key=lambda statistic: _ORDER.index(statistic.role))
    return [layer for layer in groups.values() if _is_layer(layer, shapes)]


def is_batch_norm(name: str) -> bool | None:
    """Tells by a layer's name whether it is a batch normalisation; None if it does not say."""
    for part in reversed(re.split(r"[/.]", name)[-2:]):
        if _OTHER_NORM.search(part) and not re.search("batch_?norm", part, re.IGNORECASE):
            return False
        if _BATCH_NORM.search(part):
            return True
    return None


def stem(name: str) -> str:
    """The name without its numbers: "block#/norm" of "block12/norm"."""
    return re.sub(r"\d+", "#", re.sub(r"_\d+(?=/|$)", "", name))


def is_object_based(keys: Iterable[str]) -> bool:
    """Tells whether tf.train.Checkpoint wrote this, which saves a layer's variables all or none."""
    return any(key.endswith(_OBJECT_SUFFIX) for key in keys)


def plain_name(key: str) -> str:
    """The key without what tf.train.Checkpoint appends to it."""
    return key.removesuffix(_OBJECT_SUFFIX)


def short_name(key: str) -> str:
    """The part of the name after its last slash."""
    return plain_name(key).rpartition("/")[2]


def _leaf(key: str) -> str:
    return re.split(r"[/.]", plain_name(key))[-1]


def _split(key: str, prefix: str | None = None) -> str:
    """The layer of `scope/prefix_role`: "scope", "scope/prefix", "prefix" or ""."""
    scope = plain_name(key).removesuffix(_leaf(key)).rstrip("/.")
    return "/".join(part for part in (scope, prefix) if part)


def _in_optimizer(key: str) -> bool:
    """Slots that later optimizers keep under their own name: Adam/m/bn/gamma, .OPTIMIZER_SLOT."""
    return ".OPTIMIZER_SLOT" in key or any(_OPTIMIZERS.fullmatch(part) for part in key.split("/"))


def _statistic(
    key: str, shapes: Mapping[str, tuple[int, ...]], groups: Mapping[_Key, LayerVariables]
) -> tuple[_Key, Statistic] | None:
    """The group and meaning of one variable, if it is a moving statistic."""
    name, leaf = plain_name(key), _leaf(key)
    averaged = key[: len(name)].rpartition("/")[0]
    if leaf in ("renorm_mean", "renorm_stddev"):
        role: Role = "renorm_mean" if leaf == "renorm_mean" else "renorm_stddev"
        return (_split(key), ""), Statistic(key, role, None, False, ())
    for pattern in (_MOMENTS_AVERAGE, _FUSED_AVERAGE, _NAMED_AVERAGE):
        match = pattern.fullmatch(name)
        if match and averaged not in shapes and (shapes[key] or pattern is not _NAMED_AVERAGE):
            scope = _variable_scope(match["scope"] or "", groups)
            usual = pattern is not _NAMED_AVERAGE
            statistic = Statistic(key, _role(match["a"]), True, usual, (f"{name}/local_step",))
            return (scope, match["n"] or ""), statistic
    if re.fullmatch(r"(?:.+/)?(?:mean|variance)/EMA", name):
        role = _role(short_name(averaged))
        return (_split(averaged), ""), Statistic(key, role, False, True, (f"{name}/local_step",))
    if leaf in ("average", "_average") and re.search(r"moving_(?:mean|variance)$", averaged):
        role = _role(averaged.rpartition("_")[2])
        suffix = key.removeprefix(name)
        counters = tuple(f"{averaged}/{counter}{suffix}" for counter in ("counter", "_counter"))
        return (_split(averaged), ""), Statistic(key, role, True, True, counters)
    match = _STATISTIC.fullmatch(leaf) or _PLAIN.fullmatch(leaf)
    return _hand_written(key, match, shapes) if match else None


def _hand_written(
    key: str, match: re.Match[str], shapes: Mapping[str, tuple[int, ...]]
) -> tuple[_Key, Statistic] | None:
    """moving_mean, pop_var_2, bn1_running_mean, ema_mean, ..."""
    parts, name, leaf = match.groupdict(), plain_name(key), _leaf(key)
    prefix = parts.get("prefix") or ""
    usual = bool(_USUAL.fullmatch(leaf.removeprefix(prefix).lstrip("_")))
    if not usual and not shapes[key]:
        return None  # a scalar, such as a metric
    scope = name.removesuffix(leaf)
    doubled = f"{scope}{name}/local_step"  # slim: BatchNorm/BatchNorm/moving_mean/local_step
    counters = (f"{name}/local_step", doubled, f"{scope}num_batches_tracked")
    statistic = Statistic(
        key, _role(parts["a"] or parts["b"]), False if usual else None, usual, counters
    )
    return (_split(key, prefix), parts.get("n") or ""), statistic


def _role(what: str) -> Role:
    if what.lower() in ("std", "stddev"):
        return "std"
    return "variance" if what in _VARIANCES or what.lower() in _VARIANCES else "mean"


def _variable_scope(scope: str, groups: Mapping[_Key, LayerVariables]) -> str:
    """The layer's scope, of an average that was created inside its own name scope.

    TensorFlow 1 prefixes an average of conv1/bn/moments/Squeeze with the variable scope it is
    made in, once more conv1/bn; with layers shared between towers the two may differ.
    """
    parts = scope.split("/")
    for length in range(len(parts), 0, -1):
        outer, inner = "/".join(parts[:length]), parts[length:]
        again = not inner or re.fullmatch(re.escape(parts[length - 1]) + r"(_\d+)?", inner[-1])
        if again and (outer, "") in groups:
            return outer
    half = len(parts) // 2
    if len(parts) % 2 == 0 and parts[:half] == parts[half:]:
        return "/".join(parts[:half])
    return scope


def _add(groups: dict[_Key, LayerVariables], group: _Key, statistic: Statistic) -> None:
    layer = groups.setdefault(group, LayerVariables())
    if re.search(r"accu(?:mulated)?_", _leaf(statistic.variable)):
        outer = (group[0].removesuffix("/accu"), group[1])
        groups.setdefault(outer, LayerVariables()).accumulates = True
    elif layer.find(statistic.role) is None:
        layer.statistics.append(statistic)
    else:  # a second pair in one scope is a layer of its own
        _add(groups, (_operation(statistic.variable), f"{group[1]}*"), statistic)


def _join_lone_pairs(groups: dict[_Key, LayerVariables]) -> None:
    """Joins what belongs to one layer of a scope though its numbers differ.

    bn/gamma with bn/moments_1/...: the layer's moments were not the scope's first. bn/moving_mean
    beside bn/moving_mean_1 and the rest: a variable of an earlier attempt, left over.
    """
    for scope in {scope for scope, _ in groups}:
        here = {number: layer for (at, number), layer in groups.items() if at == scope}
        bare = [n for n, layer in here.items() if layer.affine and not layer.is_pair()]
        lone = [n for n, layer in here.items() if not layer.affine]
        whole = [n for n, layer in here.items() if layer.is_pair()]
        if len(bare) == len(lone) == 1 and len(here) == 2:
            layer, other = here[bare[0]], here[lone[0]]
            if other.is_pair():
                layer.statistics = other.statistics
            else:
                layer.statistics += [s for s in other.statistics if not layer.find(s.role)]
            del groups[(scope, lone[0])]
        elif len(whole) == 1 and not bare:
            for number in here.keys() - whole:
                del groups[(scope, number)]


def _layer_name(group: _Key, layer: LayerVariables, groups: Mapping[_Key, LayerVariables]) -> str:
    """The scope; where several layers share one, or there is none, a variable's name as well."""
    scope, number = group
    if scope and not (number and any(at == scope and n != number for at, n in groups)):
        return scope
    if layer.statistics:
        return _operation(layer.statistics[0].variable)
    return plain_name(layer.affine[0]) if layer.affine else scope


def _operation(variable: str) -> str:
    """The op an average was made of: "bn/moments_1" of "bn/moments_1/Squeeze/EMA"."""
    return re.sub(r"(?:/(?:Squeeze|mean|variance)(?:_1)?)?/[^/]+$", "", plain_name(variable))


def _is_layer(layer: LayerVariables, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Drops statistics of an unusual spelling that have neither a partner nor gamma or beta."""
    if any(0 in shapes[found.variable] for found in layer.statistics):
        return False
    pair = layer.find("mean") and layer.find("variance", "std")
    usual = any(found.usual for found in layer.statistics)
    return bool(usual or layer.affine or pair)
