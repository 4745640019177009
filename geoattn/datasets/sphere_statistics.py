"""Mean and spread of variables by area, and whether other files speak the same units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from geoattn.datasets.sphere_files import FieldFile
from geoattn.datasets.sphere_samples import FieldSamples
from geoattn.errors import InputError

KELVIN = 273.15
_FAR, _TOO_FAR = 5.0, 20.0  # standard deviations between the means of two files
_SAME = (
    ("K", "kelvin", "Kelvin", "kelvins", "degK", "deg_K", "degree_K", "degrees_K", "degree_kelvin"),
    ("degC", "deg_C", "celsius", "Celsius", "C", "°C", "degree_C", "degrees_C", "degree_Celsius", "degrees_Celsius",
     "degree_celsius", "degrees_celsius", "degrees Celsius", "degrees celsius"),
    ("m", "metre", "meter", "metres", "meters"),
    ("km", "kilometre", "kilometer", "kilometres", "kilometers"),
    ("m/s", "m s-1", "m s**-1", "m s^-1", "m.s-1", "m sec-1", "m/sec", "meters per second", "metres per second"),
    ("m2/s2", "m**2 s**-2", "m2 s-2", "m^2 s^-2", "m^2/s^2", "m**2/s**2"),
    ("Pa", "pascal", "Pascal", "pascals"),
    ("hPa", "mbar", "millibar", "millibars", "mb", "hectopascal"),
    ("Pa/s", "Pa s-1", "Pa s**-1", "Pa s^-1"),
    ("1/s", "s-1", "s**-1", "s^-1", "/s", "per second"),
    ("m2/s", "m2 s-1", "m**2 s**-1", "m^2 s^-1", "m^2/s", "m**2/s"),
    ("kg/kg", "kg kg-1", "kg kg**-1", "kg kg^-1"),
    ("g/kg", "g kg-1", "g kg**-1", "g kg^-1"),
    ("kg/m2", "kg m-2", "kg m**-2", "kg m^-2", "kg/m^2", "kg/m**2"),
    ("W/m2", "W m-2", "W m**-2", "W m^-2", "W/m^2", "W/m**2"),
    ("J/m2", "J m-2", "J m**-2", "J m^-2", "J/m^2", "J/m**2"),
    ("1", "dimensionless", "(0 - 1)"),
    ("%", "percent", "per cent"),
)  # fmt: skip
_SYNONYMS = {name: names[0] for names in _SAME for name in names}


def statistics(samples: FieldSamples) -> dict[str, dict[str, float]]:
    """Per variable ``mean`` and ``std`` over area and samples, of what training samples show.

    Targets count where they are used. A forecast's variables have ``change_std`` too, the root mean square change from
    the last state to the target.
    """
    weight = samples.source.grid.points.weight.numpy()
    sums: dict[str, np.ndarray] = {}
    for spec in samples.specs:
        shown = {(name, spec.times[-1]): weight for name in samples.inputs} | {
            (name, 0): weight for name in samples.static
        }
        if spec.target is not None and not samples.classes:
            used = weight * spec.used
            shown |= {(name, spec.target): used for name in samples.targets if name not in samples.inputs}
        for (name, time), area in shown.items():
            values = samples.state(name, time).astype(np.float64)
            sums[name] = sums.get(name, np.zeros(3)) + _moments(values, area)
        if spec.target is not None and set(samples.targets) <= set(samples.inputs) and spec.target != spec.times[-1]:
            for name in samples.targets:
                change = samples.state(name, spec.target).astype(np.float64) - samples.state(name, spec.times[-1])
                sums[f"{name}\n"] = sums.get(f"{name}\n", np.zeros(3)) + _moments(change, weight)
    found: dict[str, dict[str, float]] = {}
    for name, (area, first, second) in sums.items():
        if name.endswith("\n"):
            found[name[:-1]]["change_std"] = float(np.sqrt(second / area)) if area and second else 1.0
            continue
        mean = first / area if area else 0.0
        variance = second / area - mean**2 if area else 1.0
        constant = variance <= 1e-12 * max(mean**2, 1e-300)  # rounding
        found[name] = {"mean": float(mean), "std": 1.0 if constant else float(np.sqrt(variance))}
    return found


def _moments(values: np.ndarray, area: np.ndarray) -> np.ndarray:
    known = np.isfinite(values)
    values = np.where(known, values, 0.0)
    area = area * known
    return np.array([area.sum(), area @ values, area @ values**2])


def check_units(source: FieldFile, names: Sequence[str], preprocess: Mapping[str, Any]) -> list[str]:
    """Refuse variables in other units than a model was trained with; sentences about what only looks odd.

    Args:
        source: the file to predict for.
        names: variables that the model reads.
        preprocess: of the training data: ``units`` and ``statistics``.

    Raises:
        InputError: units that differ in name, values that cannot be in the same unit, or, where one says none, that
            look like kelvin and degrees Celsius.
    """
    weight = source.grid.points.weight.numpy()
    notes = []
    for name in dict.fromkeys(names):
        here, there = source.units.get(name), preprocess["units"].get(name)
        if here and there and _plain(here) != _plain(there):
            raise InputError(
                f"{source.file}: {name} is in {here}, the model was trained with {name} in {there}. Convert it."
            )
        known = preprocess["statistics"][name]
        area, first, _ = np.sum([_moments(row.astype(np.float64), weight) for row in source.variables[name]], axis=0)
        if not area:
            notes.append(f"{name} has no value at all.")
            continue
        mean = first / area
        distance = abs(mean - known["mean"]) / known["std"]
        text = f"{source.file}: {name} has the mean {mean:.4g}, in training it was {known['mean']:.4g} (standard "
        stated = bool(here and there)
        text += f"deviation {known['std']:.4g}{f'; both say {there}' if stated else ''})"
        if not stated and abs(abs(mean - known["mean"]) - KELVIN) < min(30.0, 3 * known["std"]) and distance > 2:
            warm, cold = ("kelvin", "degrees Celsius") if mean > known["mean"] else ("degrees Celsius", "kelvin")
            raise InputError(f"{text}: the file seems to be in {warm}, the training data in {cold}. Convert it.")
        if distance > _TOO_FAR:
            raise InputError(f"{text}: these cannot be the same quantity in the same unit. Convert it.")
        if distance > _FAR:
            notes.append(f"{text}: is it in the same unit?")
    return notes


def _plain(unit: str) -> str:
    text = unit.strip()  # case matters: mPa is no MPa
    return _SYNONYMS.get(text, text)
