"""Models of moving bodies: symmetry, batching, what they read, and that they learn."""

import copy
import dataclasses

import numpy as np
import pytest
import torch

from geoattn.domains.dynamics.batch import SystemTensors
from geoattn.domains.dynamics.egnn_model import EGNNDynamics
from geoattn.domains.dynamics.se3_transformer_model import SE3TransformerDynamics
from geoattn.domains.dynamics.units import Units
from geoattn.domains.ensemble import Ensemble
from geoattn.errors import ShapeError
from geoattn.testing import assert_equivariant

from .conftest import make_systems

ONE = Units(scalars=[1.0])
EGNN = (EGNNDynamics, {"hidden_channels": 8, "num_layers": 2})
SE3 = (SE3TransformerDynamics, {"hidden_channels": 2, "num_layers": 1, "lmax": 1})


def build(kind, velocity=True, scalars=1, edges=2, seed=0, **more):
    torch.manual_seed(seed)
    cls, options = kind
    model = cls(scalars, edges, predict_velocity=velocity, **{**options, **more}).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model.eval()


@pytest.fixture
def batch(ragged):
    return SystemTensors(ragged, ONE, torch.float64)[[0, 1, 2]]


def symmetric(model, batch, group):
    def predict(pos, vel):
        found = model(batch.replaced(pos=pos, vel=vel))
        return {"pos": found.pos, "vel": found.vel}

    assert_equivariant(
        predict,
        {"pos": batch.pos, "vel": batch.vel},
        in_specs={"pos": "position", "vel": "vector"},
        out_specs={"pos": "position", "vel": "vector"},
        group=group,
    )


@pytest.mark.parametrize(
    ("kind", "options", "group"),
    [
        (EGNN, {}, "E(3)"),
        (EGNN, {"velocity": "updated", "gate": True, "normalize": True, "tanh": True, "pos_aggr": "sum"}, "E(3)"),
        (SE3, {}, "SE(3)"),
        (SE3, {"reflections": True}, "E(3)"),
    ],
)
def test_symmetry(kind, options, group, batch):
    symmetric(build(kind, **options), batch, group)


def test_the_se3_transformer_may_tell_mirror_images_apart(batch):
    """With degree 2 there are paths that a reflection turns round; without ``reflections`` they are used."""
    with pytest.raises(AssertionError, match="Not equivariant"):
        symmetric(build(SE3, lmax=2), batch, "E(3)")


def test_egnn_in_the_plane():
    systems = make_systems((3, 4), dim=2, mass=True, edges=True)
    symmetric(build(EGNN), SystemTensors(systems, ONE, torch.float64)[[0, 1]], "E(2)")


@pytest.mark.parametrize("kind", [EGNN, SE3])
class TestEveryModel:
    def test_what_stands_in_the_same_batch_changes_nothing(self, kind, ragged):
        model, tensors = build(kind), SystemTensors(ragged, ONE, torch.float64)
        together = model(tensors[[0, 1, 2]])
        alone = [model(tensors[[row]]) for row in range(3)]
        for name in ("pos", "vel"):
            apart = torch.cat([getattr(one, name) for one in alone])
            torch.testing.assert_close(getattr(together, name), apart, rtol=1e-10, atol=1e-10)

    def test_renumbering_the_bodies_renumbers_the_prediction(self, kind, systems):
        order = np.array([2, 0, 3, 1])
        one = systems.take([0])
        other = dataclasses.replace(
            one, pos=one.pos[order], vel=one.vel[order], charge=one.charge[order], target_pos=None, target_vel=None
        )
        model = build(kind, scalars=0, edges=1)
        first, second = (model(SystemTensors(s, Units(), torch.float64)[[0]]) for s in (one, other))
        torch.testing.assert_close(first.pos[torch.from_numpy(order)], second.pos, rtol=1e-10, atol=1e-10)

    @pytest.mark.parametrize("what", ["edge_scalars", "node_scalars", "vel"])
    def test_it_reads(self, kind, what, batch):
        """Charges above all: without them the task has no answer."""
        model = build(kind)
        changed = model(batch.replaced(**{what: -getattr(batch, what)}))
        assert (changed.pos - model(batch).pos).abs().max() > 1e-4

    def test_positions_alone(self, kind, batch):
        assert build(kind, velocity=False)(batch).vel is None

    def test_config_builds_it_again(self, kind, batch):
        model = build(kind)
        again = type(model)(**model.config).double().eval()
        again.load_state_dict(model.state_dict())
        torch.testing.assert_close(again(batch).pos, model(batch).pos)

    def test_ensemble(self, kind, batch):
        members = [build(kind, seed=seed) for seed in (0, 1)]
        mean = Ensemble(members)(batch)
        for name in ("pos", "vel"):
            each = [getattr(member(batch), name) for member in members]
            torch.testing.assert_close(getattr(mean, name), (each[0] + each[1]) / 2)

    def test_it_can_learn_a_few_systems(self, kind, systems):
        batch = SystemTensors(systems, Units())[[0, 1, 2]]
        model = copy.deepcopy(build(kind, scalars=0, edges=1)).float().train()
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
        losses = []
        for _ in range(60):
            found = model(batch)
            loss = (found.pos - batch.target_pos).square().mean() + (found.vel - batch.target_vel).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert min(losses) < 0.5 * losses[0]


def test_egnn_without_forces_moves_each_body_by_its_velocity(batch):
    """Messages of zero: what is left is phi_v(h_i) v_i in each layer, along the initial velocity."""
    model = build(EGNN)
    with torch.no_grad():
        for layer in model.network.layers:
            layer.pos_mlp[-1].weight.zero_()
    step = model(batch).pos - batch.pos
    cross = torch.linalg.cross(step, batch.vel)
    assert cross.abs().max() < 1e-12 < step.abs().max()


def test_the_se3_transformer_needs_three_dimensions():
    batch = SystemTensors(make_systems(dim=2), Units())[[0]]
    with pytest.raises(ShapeError, match="pos: got 2 coordinates"):
        SE3TransformerDynamics(hidden_channels=2, num_layers=1, lmax=1)(batch)
