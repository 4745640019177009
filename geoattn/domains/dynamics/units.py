"""The units a model works in: powers of ten that bring lengths, velocities and charges to order one."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from geoattn.domains.dynamics.systems import Systems


@dataclass(frozen=True)
class Units:
    """How large the model's units are in the user's.

    Powers of ten keep every digit readable, and leave data that are of order one, as the published ones are, untouched.

    Attributes:
        length, time, charge: one number each.
        scalars: one per scalar property of the bodies.
    """

    length: float = 1.0
    time: float = 1.0
    charge: float = 1.0
    scalars: list[float] = field(default_factory=list)

    @classmethod
    def fit(cls, systems: Systems) -> Units:
        """From the training part: positions about their system's mean, speeds, charges and scalars.

        Where nothing moves the unit of time is that of the horizon.
        """
        sums = np.zeros((len(systems), systems.dim))
        np.add.at(sums, systems.system_of_body, systems.pos)
        center = sums / np.maximum(systems.sizes, 1)[:, None]
        length = _power_of_ten(systems.pos - center[systems.system_of_body])
        speed = _rms(systems.vel)
        time = _nearest(length / speed) if speed > 0 else _nearest(systems.horizon)
        charge = 1.0 if systems.charge is None else _power_of_ten(systems.charge)
        return cls(length, time, charge, [_power_of_ten(column) for column in systems.scalars.T])

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        return asdict(self)


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) if values.size else 0.0


def _power_of_ten(values: np.ndarray) -> float:
    return _nearest(_rms(values))


def _nearest(size: float) -> float:
    return 10.0 ** round(math.log10(size)) if size > 0 and math.isfinite(size) else 1.0
