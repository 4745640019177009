"""Small systems of bodies, of one size and of several."""

import numpy as np
import pytest

from geoattn.domains.dynamics.systems import Systems


def make_systems(sizes=(4, 4, 4), dim=3, seed=0, *, charge=True, mass=False, edges=False, targets=True) -> Systems:
    rng = np.random.default_rng(seed)
    sizes = np.array(sizes)
    num, num_edges = sizes.sum(), (sizes * (sizes - 1)).sum()
    pos, vel, target_pos, target_vel = rng.normal(size=(4, num, dim))
    return Systems(
        ids=[f"s{k}" for k in range(len(sizes))],
        sizes=sizes,
        pos=pos,
        vel=vel,
        charge=rng.choice([-1.0, 1.0], size=num) if charge else None,
        scalars=rng.uniform(1, 2, size=(num, 1)) if mass else np.empty((0, 0)),
        scalar_names=["mass"] if mass else [],
        edge_attr=rng.choice([0.0, 1.0], size=(num_edges, 1)) if edges else None,
        target_pos=target_pos if targets else None,
        target_vel=target_vel if targets else None,
    )


@pytest.fixture
def systems() -> Systems:
    """Three systems of four charged bodies."""
    return make_systems()


@pytest.fixture
def ragged() -> Systems:
    """Systems of different sizes, one of a single body, with all quantities."""
    return make_systems((3, 1, 5), mass=True, edges=True)
