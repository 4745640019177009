import numpy as np
import pytest

from geoattn.domains.molecules.geometry import check_geometry, edges, periodic_edges
from geoattn.domains.molecules.records import RecordError


@pytest.fixture
def positions():
    return np.random.default_rng(0).uniform(0, 5, size=(23, 3))


def brute_force(positions, cutoff, cell=None, pbc=(False, False, False)):
    """Sorted (source, target, shift) of all pairs, by trying three images in each direction."""
    reach = [range(-3, 4) if axis else [0] for axis in pbc]
    cell = np.zeros((3, 3)) if cell is None else cell
    found = []
    for a in reach[0]:
        for b in reach[1]:
            for c in reach[2]:
                shift = np.array([a, b, c]) @ cell
                for target in range(len(positions)):
                    distance = np.linalg.norm(positions + shift - positions[target], axis=1)
                    found += [
                        (int(source), target, *np.round(shift, 6))
                        for source in np.flatnonzero(distance <= cutoff)
                        if source != target or (a, b, c) != (0, 0, 0)
                    ]
    return sorted(found)


def as_set(edge_index, shift):
    return sorted((int(s), int(t), *np.round(v, 6)) for s, t, v in zip(*edge_index, shift, strict=True))


@pytest.mark.parametrize("cutoff", [0.5, 2.0, 100.0])
def test_cutoff(positions, cutoff):
    edge_index = edges(positions, cutoff)
    assert as_set(edge_index, np.zeros((edge_index.shape[1], 3))) == brute_force(positions, cutoff)
    assert edge_index.dtype == np.int64 and (np.diff(edge_index[1]) >= 0).all()


def test_all_pairs(positions):
    edge_index = edges(positions, None)
    assert edge_index.shape == (2, 23 * 22) and (edge_index[0] != edge_index[1]).all()
    assert (np.diff(edge_index[1]) >= 0).all()


def test_one_atom():
    assert edges(np.zeros((1, 3)), None).shape == edges(np.zeros((1, 3)), 5.0).shape == (2, 0)


@pytest.mark.parametrize(
    "pbc", [(True, True, True), (True, True, False), (False, True, False)], ids=["crystal", "slab", "chain"]
)
def test_periodic(positions, pbc):
    """A skewed cell, smaller than the cutoff in one direction."""
    cell = np.array([[5.0, 0, 0], [1.5, 4.5, 0], [0.3, -0.8, 3.0]])
    edge_index, shift = periodic_edges(positions, cell, pbc, 3.4)
    assert as_set(edge_index, shift) == brute_force(positions, 3.4, cell, pbc)
    assert (np.diff(edge_index[1]) >= 0).all()


def test_direction_that_does_not_repeat_may_have_no_vector(positions):
    cell = np.diag([5.0, 5.0, 0.0])
    edge_index, shift = periodic_edges(positions, cell, (True, True, False), 3.0)
    assert as_set(edge_index, shift) == brute_force(positions, 3.0, cell, (True, True, False))


def test_flat_cell(positions):
    with pytest.raises(RecordError, match="span no volume"):
        periodic_edges(positions, np.diag([5.0, 5.0, 0.0]), (True, True, True), 3.0)
    with pytest.raises(RecordError, match="span no volume"):
        periodic_edges(positions, np.diag([5.0, np.nan, 4.0]), (True, True, True), 3.0)


def test_atoms_that_coincide_across_the_boundary():
    positions = np.array([[0.0, 0, 0], [4.99, 0, 0]])
    check_geometry(np.array([6, 6]), positions)
    with pytest.raises(RecordError, match="atoms [12] and [12] coincide across the cell boundary"):
        periodic_edges(positions, 5 * np.eye(3), (True, True, True), 3.0)


def test_no_atoms():
    with pytest.raises(RecordError, match="a structure without atoms"):
        check_geometry(np.empty(0, int), np.empty((0, 3)))
