"""``geoattn sphere predict``: fields for the files of others, on their own axes; and roll-outs into the future."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from geoattn._numbers import counted
from geoattn.datasets.progress import track
from geoattn.datasets.sphere_axes import grid_layout
from geoattn.datasets.sphere_coverage import check_coverage
from geoattn.datasets.sphere_files import FieldFile
from geoattn.datasets.sphere_new import fields_like
from geoattn.datasets.sphere_output import FORMATS, FieldOutput, later_labels, write_fields
from geoattn.datasets.sphere_samples import FieldSamples, windows
from geoattn.datasets.sphere_statistics import check_units
from geoattn.domains.ensemble import Ensemble
from geoattn.domains.sphere.batch import collate_fields
from geoattn.domains.sphere.records import FieldSample, SphereGrid
from geoattn.domains.sphere.transformer_model import SphereModel
from geoattn.errors import InputError
from geoattn.hub import Pretrained
from geoattn.tasks._model import checked_device, load_model
from geoattn.tasks._parts import checked_out
from geoattn.tasks._run import say
from geoattn.tasks._sphere_evaluate import TASK, predict_samples, samples_at_once
from geoattn.tasks._sphere_rollout import no_rollout, roll_members

LONGEST_ROLLOUT = 10_000


def load(model: str | Path) -> Pretrained:
    """A sphere model from a model folder, a run folder, or by the name of a shipped one."""
    return load_model(model, TASK)


def predict_file(
    model: str,
    data: str,
    out: str,
    steps: int | None = None,
    device: str | None = None,
    quiet: bool = False,
) -> None:
    """Predict fields for a file, on the file's own axes.

    A forecast is made from every state that has a past; with ``--steps`` only from the last state of the file, or of
    each of its trajectories, and then on from itself. Where no input has a value, nothing is predicted. On other points
    than the trained ones the same weights are used, and a note says so.

    Args:
        model: model folder, run folder, or the name of a shipped model.
        data: .npz, NetCDF, Zarr, GRIB or HEALPix FITS with the inputs; a folder or a pattern of several.
        out: the file to write, .npz or .nc: each variable that was asked for, of classes also NAME_probability, and of
            an ensemble NAME_std.
        steps: forecasts: how often the model goes on from its own state, behind the last known one.
        device: cpu, cuda or cuda:1; the GPU if there is one.
        quiet: say nothing but errors.
    """
    target, device = checked_out(out, FORMATS), checked_device(device)
    loaded = load(model)
    settings = loaded.preprocess
    _check_steps("--steps", steps, settings)
    source, samples, notes = fields_like(data, settings)
    for note in notes:
        say(note, quiet=quiet)
    _check_known(data, source, settings)
    network = model_on(loaded, source.grid)
    chosen = samples if steps is None else samples.take(last_rows(source, samples))
    answers = _answers(network, chosen, settings, steps or 1, device, "" if quiet else "Predict")
    write_fields(target, _output(source, chosen, answers, settings, steps))
    what = counted(len(chosen), "forecast" if settings["task"] == "forecast" else "field")
    long = "" if steps is None else f" of {counted(steps, 'step')}"
    say(f"{what}{long} predicted: {target}", quiet=quiet)


def predict_arrays(
    model: str | Path | Pretrained,
    fields: np.ndarray | Mapping[str, np.ndarray],
    *,
    lat: np.ndarray | None = None,
    lon: np.ndarray | None = None,
    steps: int | None = None,
    device: str | None = None,
) -> np.ndarray:
    """Predict fields from arrays; for files see ``geoattn sphere predict`` (`predict_file`).

    Args:
        model: model folder, run folder, name of a shipped model, or what ``from_pretrained`` returned.
        fields: ``[S, C, lat, lon]`` or ``[S, C, N]``, the variables in the order in which the model reads them, or
            name -> ``[S, lat, lon]`` or ``[S, N]``; in the units of the training data, NaN where missing. Of a
            forecast, S states that follow each other.
        lat, lon: the axes in degrees, in any order; those of the training file, in its order, if left out.
        steps: forecasts: how often to go on from the last state.
        device: ``"cpu"``, ``"cuda"`` ...; the GPU if there is one.

    Returns:
        ``[S', Ct, lat, lon]`` (or ``[S', Ct, N]``), float32: S' = S fields, S - history + 1 forecasts, or ``steps``
        states. Of classes the probabilities, ``[S, K, lat, lon]``. NaN where no input has a value.

    Raises:
        InputError: variables, shapes or values that do not fit the model.
    """
    loaded = model if isinstance(model, Pretrained) else load(model)
    device, settings = checked_device(device), loaded.preprocess
    _check_steps("steps", steps, settings)
    names = [*settings["inputs"], *settings["static"]]
    given = _named(fields, names)
    layout = None
    grid = SphereGrid.from_dict(settings["grid"])
    if (lat is None) != (lon is None):
        raise InputError("lat, lon: got one of them, expected both or neither.")
    axes = settings.get("axes") if lat is None or lon is None else {"latitude": lat, "longitude": lon}
    if axes:  # in the order of whoever made the arrays
        layout, _ = grid_layout("fields", np.asarray(axes["latitude"]), np.asarray(axes["longitude"]))
        grid = layout.grid
        shape: tuple[int, ...] = (len(layout.latitude), len(layout.longitude))
    else:
        first = given[names[0]]
        shape = grid.shape if grid.shape is not None and first.ndim == 3 else (grid.num_points,)
    number = len(given[names[0]])
    variables = {}
    for name, array in given.items():
        if array.shape != (number, *shape):
            raise InputError(f"fields: {name}: got shape {array.shape}, expected {(number, *shape)}.")
        variables[name] = layout.from_file(array) if layout else array.reshape(number, -1)
    source = FieldFile("fields", grid, variables, [str(k) for k in range(number)], np.zeros(number, dtype=np.int64),
                       layout=layout, paths=["fields"] * number)  # fmt: skip
    _check_known("fields", source, settings)
    check_coverage("fields", grid)
    check_units(source, names, settings)
    specs = windows(source, settings["task"], settings["history"], settings["steps"], targets=False)
    if not specs:
        raise InputError(f"fields: got {number} states, expected at least {settings['history']}: the history.")
    samples = FieldSamples(source, specs, settings["inputs"], settings["static"], settings["targets"])
    chosen = samples if steps is None else samples.take(last_rows(source, samples))
    found = []
    for answer in _answers(model_on(loaded, grid), chosen, settings, steps or 1, device, ""):
        found.append(np.where(answer.there, answer.mean, np.nan))
    stacked = np.concatenate(found) if steps is not None else np.stack([one[0] for one in found])
    made = layout.to_file(stacked) if layout else stacked.reshape(*stacked.shape[:-1], *shape)
    return np.ascontiguousarray(made, dtype=np.float32)


def model_on(loaded: Pretrained, grid: SphereGrid) -> nn.Module:
    """The model for the points of a file: itself, or its weights on other points.

    Raises:
        InputError: a model that takes the map for a plane, on points that are no map.
    """
    model = loaded.model
    if SphereGrid.from_dict(loaded.preprocess["grid"]).same(grid):
        return model
    members = list(model.models) if isinstance(model, Ensemble) else [model]
    moved = []
    for member in members:
        assert isinstance(member, SphereModel)
        if member.config["planar"] and grid.shape is None:
            raise InputError(f"--data: the points are {grid}; this model takes maps for planes and needs a grid.")
        moved.append(member.on(grid))
    return Ensemble(moved) if isinstance(model, Ensemble) else moved[0]


def last_rows(source: FieldFile, samples: FieldSamples) -> list[int]:
    """Of each trajectory the sample with the last state."""
    last = {int(source.group[spec.times[-1]]): row for row, spec in enumerate(samples.specs)}
    return [last[number] for number in sorted(last)]


@dataclass
class Answer:
    """What a model says of one sample, ``steps`` times.

    Attributes:
        mean: ``[T, Ct, N]``, or probabilities ``[1, K, N]``.
        spread: of an ensemble likewise, else None.
        there: ``[Ct or 1, N]`` bool, where some input has a value.
    """

    mean: np.ndarray
    spread: np.ndarray | None
    there: np.ndarray


def _answers(
    network: nn.Module, samples: FieldSamples, settings: Mapping[str, Any], steps: int, device: str, label: str
) -> Iterator[Answer]:
    """Sample after sample; few are in memory at once."""
    network = network.eval().to(device)
    size = max(1, samples_at_once(samples.source.grid.num_points) // steps)
    starts = range(0, len(samples), size)
    for start in track(starts, len(starts), label, show=bool(label)):
        some = [samples[row] for row in range(start, min(start + size, len(samples)))]
        if steps == 1:
            means, spreads = predict_samples(network, some, settings, device)
            for k, sample in enumerate(some):
                yield Answer(means[k][None], spreads[k][None] if spreads else None, _there(sample, settings))
            continue
        batch = collate_fields(some, settings).to(device)
        states = roll_members(network, batch, settings, steps)
        mean, spread = states.mean(0).float().cpu().numpy(), states.std(0, correction=0).float().cpu().numpy()
        for k, sample in enumerate(some):
            yield Answer(mean[:, k], spread[:, k] if isinstance(network, Ensemble) else None, _there(sample, settings))


def _there(sample: FieldSample, settings: Mapping[str, Any]) -> np.ndarray:
    """``[Ct, N]`` (of all but forecasts ``[1, N]``): where a prediction stands on some input."""
    there = np.isfinite(sample.inputs)
    if settings["task"] != "forecast":
        found: np.ndarray = there.any(axis=0, keepdims=True)
        return found
    inputs, history = settings["inputs"], settings["history"]
    states = there[: history * len(inputs)].reshape(history, len(inputs), -1).any(axis=0)
    return np.stack([states[inputs.index(name)] for name in settings["targets"]])


def _output(
    source: FieldFile, samples: FieldSamples, answers: Iterator[Answer], settings: Mapping[str, Any], steps: int | None
) -> FieldOutput:
    """All answers on the axes of the file, filled in as they come."""
    length, number, targets = steps or 1, source.grid.num_points, settings["targets"]
    total = len(samples) * length
    classes = settings["task"] == "segmentation"
    variables: dict[str, np.ndarray] = {}

    def place(name: str, row: int, values: np.ndarray, dtype: Any = np.float32) -> None:
        variables.setdefault(name, np.empty((total, number), dtype=dtype))[row * length : (row + 1) * length] = values

    for row, answer in enumerate(answers):
        if classes:
            best = answer.mean.argmax(axis=1)
            place(targets[0], row, np.where(answer.there, best, -1), np.int32)
            place(f"{targets[0]}_probability", row, np.where(answer.there, answer.mean.max(axis=1), np.nan))
            continue
        for t, name in enumerate(targets):
            place(name, row, np.where(answer.there[t], answer.mean[:, t], np.nan))
            if answer.spread is not None:
                place(f"{name}_std", row, np.where(answer.there[t], answer.spread[:, t], np.nan))
    units = {name: settings["units"][name] for name in targets if name in settings["units"]}
    units |= {f"{name}_std": unit for name, unit in units.items() if f"{name}_std" in variables}
    output = FieldOutput(source, (total,), variables, [], units={} if classes else units,
                         class_names={targets[0]: settings["class_names"]} if classes else {})  # fmt: skip
    if settings["task"] != "forecast":
        return replace(output, labels=[spec.id for spec in samples.specs])
    labels: list[str] = []
    for spec in samples.specs:
        rows = np.flatnonzero(source.group[: spec.times[-1] + 1] == source.group[spec.times[-1]])
        known = [source.labels[row] for row in rows[-3:]]
        labels += later_labels(known, [settings["steps"] * k for k in range(1, length + 1)])
    starts = [source.labels[spec.times[-1]] for spec in samples.specs for _ in range(length)]
    return replace(output, lead=_lead(source, samples, length), labels=labels, starts=starts)


def _lead(source: FieldFile, samples: FieldSamples, length: int) -> tuple[int, ...]:
    """Trajectories and times, where the file has several and all have as many forecasts; else one axis."""
    _, counts = np.unique(source.group[[spec.times[-1] for spec in samples.specs]], return_counts=True)
    if source.trajectories and len(set(counts.tolist())) == 1:
        return len(counts), int(counts[0]) * length
    return (len(samples) * length,)


def _check_steps(option: str, steps: int | None, settings: Mapping[str, Any]) -> None:
    if steps is None:
        return
    if not 1 <= steps <= LONGEST_ROLLOUT:
        raise InputError(f"{option}: got {steps}, expected a number from 1 to {LONGEST_ROLLOUT}.")
    if reason := no_rollout(settings):
        raise InputError(f"{option}: this model cannot go on from its own answers: {reason}.")


def _check_known(data: str, source: FieldFile, settings: Mapping[str, Any]) -> None:
    names = [*settings["inputs"], *settings["static"]]
    if not any(np.isfinite(source.variables[name]).any() for name in names):
        raise InputError(
            f"{data}: every value of {', '.join(names)} is missing, expected some that are known. Look at how the file "
            "marks missing values."
        )


def _named(fields: np.ndarray | Mapping[str, np.ndarray], names: Sequence[str]) -> dict[str, np.ndarray]:
    if not isinstance(fields, Mapping):
        array = np.asarray(fields)
        if array.ndim not in (3, 4) or array.shape[1] != len(names):
            raise InputError(f"fields: got shape {array.shape}, expected [S, {len(names)}, ...]: {', '.join(names)}.")
        fields = {name: array[:, k] for k, name in enumerate(names)}
    missing = [name for name in names if name not in fields]
    if missing:
        raise InputError(f"fields: {missing[0]!r} is missing; the model reads {', '.join(names)}.")
    found = {name: np.asarray(fields[name], dtype=np.float32) for name in names}
    for name, array in found.items():
        if array.ndim < 2 or not array.size:
            raise InputError(f"fields: {name}: got shape {array.shape}, expected [S, lat, lon] or [S, N] with S >= 1.")
    return found
