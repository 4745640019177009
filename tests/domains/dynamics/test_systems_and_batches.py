"""Systems, the units of a model, and batches sliced from memory."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
import torch

from geoattn.domains.dynamics.batch import SystemTensors, full_graph
from geoattn.domains.dynamics.systems import joined, rows_of_segments
from geoattn.domains.dynamics.units import Units
from geoattn.errors import InputError
from geoattn.kernels import Neighborhood

from .conftest import make_systems

ONE = Units(scalars=[1.0])


class TestSystems:
    def test_take(self, ragged):
        taken = ragged.take([2, 0])
        assert taken.ids == ["s2", "s0"] and taken.sizes.tolist() == [5, 3]
        np.testing.assert_array_equal(taken.pos, np.concatenate([ragged.pos[4:9], ragged.pos[:3]]))
        np.testing.assert_array_equal(taken.edge_attr, np.concatenate([ragged.edge_attr[6:], ragged.edge_attr[:6]]))
        np.testing.assert_array_equal(taken.scalars, ragged.scalars[[4, 5, 6, 7, 8, 0, 1, 2]])
        assert taken.entity_names() == ["0", "1", "2", "3", "4", "0", "1", "2"]

    def test_joined(self, ragged):
        parts = [ragged.take([0]), ragged.take([1, 2])]
        for field in dataclasses.fields(ragged):
            np.testing.assert_array_equal(getattr(joined(parts), field.name), getattr(ragged, field.name))

    def test_parts_with_other_quantities_are_not_joined(self, ragged):
        other = dataclasses.replace(ragged, charge=None)
        with pytest.raises(InputError, match="charge is in one and not in another"):
            joined([ragged, other])

    def test_rows_of_segments(self):
        assert rows_of_segments(np.array([0, 2, 2, 5]), np.array([2, 1, 0, 2])).tolist() == [2, 3, 4, 0, 1, 2, 3, 4]
        assert rows_of_segments(np.array([0, 2]), np.array([], dtype=int)).tolist() == []


@pytest.mark.parametrize("sizes", [(3, 3), (4, 1, 3), (1, 1), (2,), (1, 3, 0, 2), (0, 0)])
def test_full_graph_against_all_pairs(sizes):
    starts = np.cumsum([0, *sizes])
    pairs = [
        (source, target)
        for first, last in pairwise(starts)
        for target in range(first, last)
        for source in range(first, last)
        if source != target
    ]
    nbr = full_graph(sizes)
    assert list(zip(nbr.source.tolist(), nbr.target.tolist(), strict=True)) == pairs
    expected = Neighborhood.from_edge_index(nbr.edge_index, sum(sizes))
    torch.testing.assert_close(nbr.row_ptr, expected.row_ptr)
    torch.testing.assert_close(nbr.source_order, expected.source_order)


class TestBatches:
    def test_slices_of_equal_systems_share_their_edges(self, systems):
        tensors = SystemTensors(systems, Units())
        assert tensors[[0, 1]].nbr is tensors[[2, 0]].nbr
        batch = tensors[[2, 0]]
        assert batch.size == 4 and batch.num_systems == 2 and batch.batch.tolist() == [0] * 4 + [1] * 4

    @pytest.mark.parametrize("rows", [[0, 1, 2], [2], [2, 0]])
    def test_values(self, ragged, rows):
        batch = SystemTensors(ragged, ONE, torch.float64)[rows]
        taken = ragged.take(rows)
        center = np.stack([taken.pos[taken.system_of_body == s].mean(0) for s in range(len(rows))])[
            taken.system_of_body
        ]
        np.testing.assert_allclose(batch.pos, taken.pos - center, atol=1e-14)
        np.testing.assert_allclose(batch.target_pos, taken.target_pos - center, atol=1e-14)
        np.testing.assert_array_equal(batch.vel, taken.vel)
        np.testing.assert_array_equal(batch.node_scalars, taken.scalars)
        source, target = batch.edge_index.numpy()
        np.testing.assert_array_equal(batch.edge_scalars[:, 0], taken.charge[source] * taken.charge[target])
        np.testing.assert_array_equal(batch.edge_scalars[:, 1], taken.edge_attr[:, 0])
        assert batch.size is None

    def test_without_interactions(self):
        batch = SystemTensors(make_systems(charge=False), Units())[[0]]
        assert batch.charge is None and batch.edge_scalars.shape == (12, 0) and batch.node_scalars.shape == (4, 0)

    def test_far_from_the_origin_no_digits_are_lost(self, systems):
        far = dataclasses.replace(systems, pos=systems.pos + 1e8, target_pos=systems.target_pos + 1e8)
        near, moved = (SystemTensors(one, Units())[[0, 1, 2]] for one in (systems, far))
        torch.testing.assert_close(near.pos, moved.pos, rtol=0, atol=1e-6)
        torch.testing.assert_close(near.target_pos, moved.target_pos, rtol=0, atol=1e-6)

    def test_to_device(self, systems):
        batch = SystemTensors(systems, Units())[[0]]
        assert batch.to("cpu") is batch
        moved = batch.to("meta")
        assert moved.pos.device.type == moved.nbr.source.device.type == moved.target_vel.device.type == "meta"


class TestUnits:
    def test_data_of_order_one_stay_as_they_are(self, systems):
        assert Units.fit(systems) == Units()

    def test_powers_of_ten(self, ragged):
        """Millions of kilometres and days, say: the model sees numbers of order one, and the same horizon."""
        scaled = dataclasses.replace(
            ragged,
            pos=ragged.pos * 1e8 + 5e9,
            vel=ragged.vel * 1e6,
            target_pos=ragged.target_pos * 1e8 + 5e9,
            target_vel=ragged.target_vel * 1e6,
            charge=ragged.charge * 1e-9,
            scalars=ragged.scalars * 1e24,
            horizon=100.0,
        )
        units = Units.fit(scaled)
        assert (units.length, units.time, units.charge, units.scalars) == (1e8, 100.0, 1e-9, [1e24])
        expected = SystemTensors(ragged, Units.fit(ragged), torch.float64)[[0, 1, 2]]
        batch = SystemTensors(scaled, units, torch.float64)[[0, 1, 2]]
        assert batch.horizon == pytest.approx(1.0)
        for name in ("pos", "vel", "charge", "node_scalars", "target_pos", "target_vel"):
            torch.testing.assert_close(getattr(batch, name), getattr(expected, name), rtol=1e-6, atol=1e-6)

    def test_bodies_at_rest(self, systems):
        still = dataclasses.replace(systems, vel=np.zeros_like(systems.vel), horizon=1000.0)
        assert Units.fit(still).time == 1000.0
