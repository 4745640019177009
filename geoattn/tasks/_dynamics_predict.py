"""``geoattn dynamics predict``: where the bodies of a file will be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from geoattn._files import atomic_path
from geoattn.datasets.dynamics import quantities
from geoattn.datasets.dynamics_files import Reading, SystemFile, read_systems, refuse_frames, same_time
from geoattn.datasets.rejections import OnError, Rejections
from geoattn.domains.dynamics.systems import Systems
from geoattn.domains.dynamics.units import Units
from geoattn.errors import InputError
from geoattn.hub import Pretrained
from geoattn.tasks._dynamics_evaluate import TASK, predict_systems, prediction_table
from geoattn.tasks._model import default_device, load_model
from geoattn.tasks._parts import checked_out
from geoattn.tasks._run import say


def predict_file(
    model: str,
    data: str,
    out: str,
    frame_in: float | None = None,
    on_error: OnError = "raise",
    device: str | None = None,
    quiet: bool = False,
) -> None:
    """Predict where the bodies of a file will be, with a trained model.

    The file has the quantities of the training file, without the later positions; columns are called as there. If the
    later positions are there too (loc1, or the later frame of runs and tables), they stand beside the predictions, and
    the distance from them in the column ``error``; where they are not known for a body, its cells are empty. The whole
    file is read into memory: cut one that does not fit into several.

    Args:
        model: model folder, run folder, or the name of a shipped model.
        data: .npz, CSV, TSV or Parquet.
        out: the file to write, .csv or .parquet: one row per body with id, entity and a column <coordinate>_pred each.
        frame_in: the frame of runs and tables to start from; that of the training file if left out.
        on_error: raise stops at the first system that cannot be used; skip leaves such systems out and lists them in
            <out>.rejected.csv.
        device: cpu, cuda or cuda:1; the GPU if there is one.
        quiet: say nothing but errors.
    """
    target = checked_out(out)
    loaded = load_model(model, TASK)
    rejections = Rejections(on_error, "systems")
    file = read_for_model(data, loaded, rejections, frames=(frame_in, None), need_targets=False)
    units = Units(**loaded.preprocess["units"])
    predicted = predict_systems(loaded.model, file.systems, units, device or default_device())
    table, rejected = prediction_table(file.systems, predicted), rejections.table()
    if len(rejected):
        with atomic_path(target.with_name(target.name + ".rejected.csv")) as temporary:
            rejected.to_csv(temporary, index=False)
    with atomic_path(target) as temporary:
        if target.suffix == ".parquet":
            table.to_parquet(temporary, index=False)
        else:
            table.to_csv(temporary, index=False)
    note = f", {len(rejected)} rejected" if len(rejected) else ""
    say(f"{len(file.systems)} systems with {len(table)} bodies predicted{note}: {target}", quiet=quiet)


def predict_arrays(
    model: str | Path | Pretrained,
    pos: ArrayLike,
    vel: ArrayLike,
    charge: ArrayLike | None = None,
    mass: ArrayLike | None = None,
    device: str | None = None,
    *,
    edges: ArrayLike | None = None,
    scalars: Mapping[str, ArrayLike] | None = None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Positions, and velocities if the model predicts them, of systems of n bodies each.

    Args:
        model: model folder, run folder, the name of a shipped model, or a loaded model.
        pos: ``[S, n, dim]`` where the bodies are, in the units of the training file.
        vel: ``[S, n, dim]`` how fast they move.
        charge: ``[S, n]`` or ``[S, n, 1]``; as all that follows, if and only if the model was trained with it.
        mass: ``[S, n]`` or ``[S, n, 1]``.
        device: cpu, cuda or cuda:1; the GPU if there is one.
        edges: ``[S, n, n]`` known interactions, ``edges[s, target, source]``.
        scalars: name -> ``[S, n]`` or ``[S, n, 1]``, the other properties of the bodies (scalar_columns in training).

    Returns:
        ``[S, n, dim]`` each; None in the place of velocities that the model does not predict.

    Raises:
        InputError: an array has another shape or a number that is not finite, is missing, or is none of the model's.
    """
    loaded = model if isinstance(model, Pretrained) else load_model(model, TASK)
    place = _numbers("pos", pos)
    if place.ndim != 3 or 0 in place.shape:
        raise InputError(f"pos: got shape {place.shape}, expected [systems, bodies, coordinates], none of them 0.")
    num, n, dim = place.shape
    speed = _numbers("vel", vel, place.shape)
    properties = {**({} if mass is None else {"mass": mass}), **(scalars or {})}
    # in the order of training; the others are refused below
    properties = {name: properties[name] for name in sorted(properties, key=_order_in(loaded))}
    columns = [_numbers(name, values, (num, n)).reshape(-1) for name, values in properties.items()]
    systems = Systems(
        ids=[str(s) for s in range(num)],
        sizes=np.full(num, n),
        pos=place.reshape(-1, dim),
        vel=speed.reshape(-1, dim),
        charge=None if charge is None else _numbers("charge", charge, (num, n)).reshape(-1),
        scalars=np.stack(columns, axis=1) if columns else np.empty((0, 0)),
        scalar_names=list(properties),
        edge_attr=None
        if edges is None
        else _numbers("edges", edges, (num, n, n))[:, ~np.eye(n, dtype=bool)].reshape(-1, 1),
        horizon=loaded.preprocess["horizon"],
    )
    check_quantities("argument", systems, loaded)
    predicted = predict_systems(loaded.model, systems, Units(**loaded.preprocess["units"]), device or default_device())
    return predicted.pos.reshape(place.shape), None if predicted.vel is None else predicted.vel.reshape(place.shape)


def _order_in(loaded: Pretrained) -> Callable[[str], int]:
    known = loaded.preprocess["quantities"]["scalars"]
    return lambda name: known.index(name) if name in known else len(known)


def _numbers(name: str, values: ArrayLike, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """An argument in float64, of that shape, all of it finite; properties of bodies may have a last axis of 1."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: got {type(values).__name__}, expected an array of numbers ({error}).") from error
    if shape is not None and len(shape) == 2 and array.shape == (*shape, 1):
        array = array[..., 0]
    if shape is not None and array.shape != shape:
        raise InputError(f"{name}: got shape {array.shape}, expected {shape}.")
    if not np.isfinite(array).all():
        index = tuple(int(k) for k in np.argwhere(~np.isfinite(array))[0])
        raise InputError(f"{name}: got {array[index]} at {list(index)}, expected finite numbers.")
    return array


def read_for_model(
    data: str,
    loaded: Pretrained,
    rejections: Rejections,
    *,
    frames: tuple[float | None, float | None],
    need_targets: bool,
) -> SystemFile:
    """A file as the model's training file was read.

    Args:
        frames: to use instead of those of the training file.
        need_targets: the later positions must be there.

    Raises:
        InputError: the file has other quantities than the model was trained on, or another time to predict over.
    """
    preprocess: dict[str, Any] = loaded.preprocess
    horizon, columns = preprocess["horizon"], preprocess["columns"]
    begin, end = preprocess["frame_in"] if frames[0] is None else frames[0], frames[1]
    if need_targets and end is None and begin is not None:
        end = begin + horizon / columns["frame_time"]
    reading = Reading(need_targets=need_targets, frame_in=begin, frame_out=end, horizon=horizon, **columns)
    file = read_systems(data, reading, rejections)
    refuse_frames(data, file, *frames)
    check_quantities(data, file.systems, loaded)
    if not same_time(file.systems.horizon, horizon):
        raise InputError(
            f"{data}: got a time of {file.systems.horizon:g} between the frames, expected {horizon:g}, for which the "
            "model was trained. Choose other frames."
        )
    return file


def check_quantities(source: str, systems: Systems, loaded: Pretrained) -> None:
    """Refuse systems of which other things are known than of those the model was trained on.

    Args:
        source: the file, or ``"argument"`` where arrays came from Python.
        systems: of the source.
        loaded: the model.
    """
    expected, got = loaded.preprocess["quantities"], quantities(systems)
    start = "" if source == "argument" else f"{source}: "
    if got["dim"] != expected["dim"]:
        raise InputError(
            f"{start or 'pos: '}got {got['dim']} coordinates per body, expected {expected['dim']} as in the model's "
            "training file."
        )
    wanted, there = _names(expected), _names(got)
    for name in wanted:
        if name not in there:
            raise InputError(
                f"{start}{name}: there is none, and the model was trained with it. {_remedy(source, name)}"
            )
    for name in there:
        if name not in wanted:
            raise InputError(f"{start}{name}: the model was trained without it. Leave it out.")


def _names(known: Mapping[str, Any]) -> list[str]:
    return [*(["charge"] if known["charge"] else []), *known["scalars"], *(["edges"] if known["edges"] else [])]


def _remedy(source: str, name: str) -> str:
    """How something that a model needs is given."""
    usual = name in ("charge", "mass", "edges")
    if source == "argument":
        return f"Pass {name}=..." if usual else f"Pass scalars={{{name!r}: ...}}."
    if Path(source).suffix.lower() == ".npz":
        shape = "[systems, bodies, bodies]" if name == "edges" else "[systems, bodies]"
        return f"Add the array {name} {shape}." if usual else "Give a table; .npz files cannot hold it."
    return "Give an .npz file; tables cannot hold it." if name == "edges" else f"Add the column {name}."
