"""``geoattn dynamics predict``: where the bodies of a file will be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from geoattn._files import atomic_path
from geoattn.datasets.dynamics import quantities
from geoattn.datasets.dynamics_files import Reading, SystemFile, read_systems
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
    later positions are there too, the distance from them stands in the column ``error``.

    Args:
        model: model folder, run folder, or the name of a shipped model.
        data: .npz, CSV, TSV or Parquet.
        out: the file to write, .csv or .parquet: one row per body with id, entity and a column <coordinate>_pred each.
        frame_in: the frame to start from; that of the training file if left out.
        on_error: raise stops at the first system that cannot be used; skip leaves such systems out and lists them in
            <out>.rejected.csv.
        device: cpu, cuda or cuda:1; the GPU if there is one.
        quiet: say nothing but errors.
    """
    target = checked_out(out)
    loaded = load_model(model, TASK)
    rejections = Rejections(on_error)
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
    pos: np.ndarray,
    vel: np.ndarray,
    charge: np.ndarray | None = None,
    mass: np.ndarray | None = None,
    device: str | None = None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Positions, and velocities if the model predicts them, of systems of n bodies each, ``[S, n, dim]``."""
    loaded = model if isinstance(model, Pretrained) else load_model(model, TASK)
    pos, vel = (np.asarray(array, dtype=np.float64) for array in (pos, vel))
    if pos.ndim != 3 or vel.shape != pos.shape:
        raise InputError(f"pos: got shape {pos.shape}, vel {vel.shape}, expected [systems, bodies, coordinates] twice.")
    num, n, dim = pos.shape

    def flat(name: str, values: np.ndarray | None) -> np.ndarray | None:
        if values is not None and np.shape(values) != (num, n):
            raise InputError(f"{name}: got shape {np.shape(values)}, expected {(num, n)}.")
        return None if values is None else np.asarray(values, dtype=np.float64).reshape(-1)

    masses = flat("mass", mass)
    systems = Systems(
        ids=[str(s) for s in range(num)],
        sizes=np.full(num, n),
        pos=pos.reshape(-1, dim),
        vel=vel.reshape(-1, dim),
        charge=flat("charge", charge),
        scalars=np.empty((0, 0)) if masses is None else masses[:, None],
        scalar_names=[] if masses is None else ["mass"],
        horizon=loaded.preprocess["horizon"],
    )
    check_quantities("pos", systems, loaded)
    predicted = predict_systems(loaded.model, systems, Units(**loaded.preprocess["units"]), device or default_device())
    return predicted.pos.reshape(pos.shape), None if predicted.vel is None else predicted.vel.reshape(pos.shape)


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
    check_quantities(data, file.systems, loaded)
    if not np.isclose(file.systems.horizon, horizon, rtol=1e-9):
        raise InputError(
            f"{data}: got a time of {file.systems.horizon:g} between the frames, expected {horizon:g}, for which the "
            "model was trained. Choose other frames."
        )
    return file


def check_quantities(data: str, systems: Systems, loaded: Pretrained) -> None:
    """Refuse systems of which other things are known than of those the model was trained on."""
    expected, got = loaded.preprocess["quantities"], quantities(systems)
    for name, wanted in expected.items():
        if got[name] != wanted:
            raise InputError(
                f"{data}: {name}: got {_said(got[name])}, expected {_said(wanted)} as in the model's training file."
            )


def _said(quantity: Any) -> str:
    if isinstance(quantity, list):
        return ", ".join(quantity) or "none"
    return {True: "some", False: "none"}[quantity] if isinstance(quantity, bool) else str(quantity)
