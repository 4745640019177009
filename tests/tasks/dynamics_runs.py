"""Small fits of moving bodies, shared by the tests of the task."""

from pathlib import Path

import numpy as np

from geoattn.tasks import dynamics
from geoattn.tasks._parser import merged

SMALL = {
    "data": {"batch_size": 10},
    "model": {"hidden_channels": 8, "num_layers": 2},
    "trainer": {"max_epochs": 2},
    "quiet": True,
}


def fit(file, out, **options):
    return dynamics.fit(file, out=out, **merged(SMALL, options))


def arrays_of(path: Path, part: str = "test_") -> dict[str, np.ndarray]:
    return {key.removeprefix(part): array for key, array in np.load(path).items() if key.startswith(part)}
