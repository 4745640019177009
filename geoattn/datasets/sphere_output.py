"""Files of predicted fields: on the axes of the file that they were predicted for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from geoattn._files import atomic_path
from geoattn._optional import require
from geoattn.datasets.sphere_files import FieldFile

FORMATS = (".npz", ".nc")
_MOMENT = re.compile(r"\d{4}-\d{2}(-\d{2}([T ]\d{2}(:\d{2}(:\d{2}(\.\d+)?)?)?)?Z?)?")


@dataclass
class FieldOutput:
    """Predicted fields, ready to be written.

    Attributes:
        source: the file that they were predicted for; its axes are those of the output.
        lead: axes before those of the points: samples, or trajectories and times.
        variables: name -> ``[S, N]``, S being the product of ``lead``.
        labels: ``[S]`` of each field: the moment that it is of, where the file says moments.
        starts: ``[S]`` of forecasts, the label of the last known state; else empty.
        units: by variable.
        class_names: by variable.
    """

    source: FieldFile
    lead: tuple[int, ...]
    variables: Mapping[str, np.ndarray]
    labels: Sequence[str]
    starts: Sequence[str] = ()
    units: Mapping[str, str] = field(default_factory=dict)
    class_names: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def on_axes(self, name: str) -> np.ndarray:
        """``[*lead, lat, lon]`` as in the source, or ``[*lead, N]``."""
        values = self.variables[name]
        layout = self.source.layout
        values = layout.to_file(values) if layout else values
        return values.reshape(*self.lead, *values.shape[1:])


def write_fields(path: Path, output: FieldOutput) -> None:
    """Write an .npz, which `geoattn.datasets.sphere_files.read_fields` reads again, or a NetCDF file; it appears whole.

    Raises:
        ImportError: .nc without xarray and h5netcdf; it says which extra to install.
    """
    write = _write_npz if path.suffix == ".npz" else _write_netcdf
    with atomic_path(path) as temporary:
        write(temporary, output)


def _write_npz(path: Path, output: FieldOutput) -> None:
    source = output.source
    arrays: dict[str, Any] = {name: output.on_axes(name) for name in output.variables}
    if source.layout:
        arrays |= {"lat": source.layout.latitude, "lon": source.layout.longitude}
    elif source.grid.kind == "healpix":
        arrays["order"] = np.array(source.grid.order)
    else:
        arrays |= {"lat": np.array(source.grid.latitude), "lon": np.array(source.grid.longitude)}
    arrays["time" if output.starts else "id"] = np.array(output.labels)
    if output.starts:
        arrays["start"] = np.array(output.starts)
    arrays |= {f"{name}_units": np.array(unit) for name, unit in output.units.items()}
    arrays |= {f"{name}_names": np.array(names) for name, names in output.class_names.items()}
    with path.open("wb") as file:
        np.savez(file, **arrays)


def _write_netcdf(path: Path, output: FieldOutput) -> None:
    xarray = require("xarray", "sphere")
    require("h5netcdf", "sphere")
    require("h5py", "sphere")
    source, layout = output.source, output.source.layout
    degrees = {"lat": {"units": "degrees_north", "standard_name": "latitude"}, "lon": {"units": "degrees_east",
               "standard_name": "longitude"}}  # fmt: skip
    forecast = bool(output.starts)
    moments = _moments(output.labels) if len(output.lead) == 1 else None
    along = source.called.get("time", "time") if forecast or moments is not None else "sample"
    dims = (along,) if len(output.lead) == 1 else ("trajectory", along)
    coordinates: dict[str, Any]
    points: tuple[str, ...]
    places: dict[str, np.ndarray]
    if layout:
        points, places = (
            (source.called.get("lat", "lat"), source.called.get("lon", "lon")),
            {"lat": layout.latitude, "lon": layout.longitude},
        )
        coordinates = {
            axis: (axis, values, degrees[name]) for axis, (name, values) in zip(points, places.items(), strict=True)
        }
    else:
        points, xyz = ("point",), source.grid.points
        places = {"lat": 90 - np.degrees(xyz.colatitude.numpy()), "lon": np.degrees(xyz.longitude.numpy())}
        coordinates = {name: ("point", values, degrees[name]) for name, values in places.items()}
    labels = np.array(output.labels, dtype=object).reshape(output.lead)
    if moments is not None:
        coordinates[dims[0]] = (dims[0], moments, {})
    else:
        coordinates["label"] = (dims, labels, {})
    if forecast:
        coordinates["start"] = (dims, np.array(output.starts, dtype=object).reshape(output.lead), {})
    variables = {}
    for name in output.variables:
        attributes: dict[str, Any] = {"units": output.units[name]} if name in output.units else {}
        if name in output.class_names:
            names = output.class_names[name]
            attributes = {"flag_values": np.arange(len(names), dtype=np.int32), "flag_meanings": " ".join(
                each.replace(" ", "_") for each in names)}  # fmt: skip
        if name in source.long_names:
            attributes["long_name"] = source.long_names[name]
        variables[name] = ((*dims, *points), output.on_axes(name), attributes)
    made = xarray.Dataset(variables, coords=coordinates)
    made.to_netcdf(path, engine="h5netcdf")


def later_labels(known: Sequence[str], states: Sequence[int]) -> list[str]:
    """What states that come after the known ones are called.

    Args:
        known: labels of states that follow each other, the last one last.
        states: how many states after the last.

    Returns:
        Moments and numbers go on at their own pace, where it is the same all the time; of all else the last label with
        ``+states`` behind.

    Example:
        >>> later_labels(["2006-01-01T06:00", "2006-01-01T12:00"], [1, 2])
        ['2006-01-01T18:00', '2006-01-02T00:00']
        >>> later_labels(["3,7", "3,8"], [5]), later_labels(["spring"], [1])
        (['3,13'], ['spring+1'])
    """
    parts = [text.rpartition(",") for text in known]
    front, tails = "".join(parts[-1][:2]), [tail for _, _, tail in parts]
    moments = _moments(tails)
    if moments is not None and len(moments) > 1 and len(set(np.diff(moments).tolist())) == 1:
        pace = moments[-1] - moments[-2]
        unit: Literal["m", "s"] = "m" if pace % np.timedelta64(1, "m") == np.timedelta64(0, "s") else "s"
        return [front + str(np.datetime_as_string(moments[-1] + k * pace, unit=unit)) for k in states]
    if len(tails) > 1 and all(tail.lstrip("-").isdecimal() for tail in tails):
        numbers = np.array([int(tail) for tail in tails])
        if len(set(np.diff(numbers).tolist())) == 1:
            return [f"{front}{numbers[-1] + k * (numbers[-1] - numbers[-2])}" for k in states]
    return [f"{known[-1]}+{k}" for k in states]


def _moments(labels: Sequence[str]) -> np.ndarray | None:
    if not all(_MOMENT.fullmatch(label) for label in labels):
        return None
    try:
        return np.array([label.removesuffix("Z") for label in labels], dtype="datetime64[s]").astype("datetime64[ns]")
    except ValueError:
        return None
