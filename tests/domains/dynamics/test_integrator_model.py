"""The learned law of force inside an integrator: symmetry, conservation, known laws."""

import numpy as np
import pytest
import torch

from geoattn.domains.dynamics.batch import SystemBatch, full_graph
from geoattn.domains.dynamics.integrator_model import PairForceIntegrator, bounded, kick


def batch(sizes: tuple[int, ...] = (5, 5), seed: int = 0, scalars: int = 0, dim: int = 3) -> SystemBatch:
    generator = torch.Generator().manual_seed(seed)
    num, nbr = sum(sizes), full_graph(sizes)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    charge = torch.where(normal(num, 1) > 0, 1.0, -1.0).double()
    return SystemBatch(
        pos=normal(num, dim),
        vel=normal(num, dim),
        charge=charge,
        node_scalars=normal(num, scalars),
        edge_scalars=charge[nbr.source] * charge[nbr.target],
        nbr=nbr,
        batch=torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes)),
        num_systems=len(sizes),
        size=None,
        horizon=1.0,
    )


def model(seed: int = 0, **options) -> PairForceIntegrator:
    torch.manual_seed(seed)
    network = PairForceIntegrator(predict_velocity=True, steps=20, eval_steps=40, **options).double()
    for parameter in network.parameters():  # the last layers start at zero
        torch.nn.init.normal_(parameter, std=0.3)
    return network


def test_untrained_bodies_move_uniformly():
    systems = batch()
    found = PairForceIntegrator(predict_velocity=True).double()(systems)
    torch.testing.assert_close(found.pos, systems.pos + systems.vel, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.vel, systems.vel)


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("scalars", [0, 2])
def test_equivariant_to_rotation_reflection_and_translation(dim: int, scalars: int):
    systems, network = batch(scalars=scalars, dim=dim), model(num_node_scalars=scalars)
    rotation = torch.linalg.qr(torch.randn(dim, dim, dtype=torch.float64)).Q
    for turn in (rotation, -rotation):
        moved = network(systems.replaced(pos=systems.pos @ turn.T + 3, vel=systems.vel @ turn.T))
        found = network(systems)
        torch.testing.assert_close(moved.pos, found.pos @ turn.T + 3, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(moved.vel, found.vel @ turn.T, rtol=1e-9, atol=1e-9)


def test_momentum_is_conserved():
    systems = batch((6,))
    found = model()(systems)
    torch.testing.assert_close(found.vel.sum(0), systems.vel.sum(0), rtol=1e-12, atol=1e-12)
    assert (found.vel - systems.vel).abs().max() > 1e-6


def test_systems_do_not_feel_each_other_and_may_be_single_bodies():
    systems, network = batch((5, 1, 3)), model()
    both = network(systems).pos
    alone = batch((5,))
    first = SystemBatch(
        **{**alone.__dict__, "pos": systems.pos[:5], "vel": systems.vel[:5], "charge": systems.charge[:5]}
        | {"edge_scalars": systems.edge_scalars[:20]}
    )
    torch.testing.assert_close(both[:5], network(first).pos, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(both[5], systems.pos[5] + systems.vel[5], rtol=1e-12, atol=1e-12)


def test_inverse_square_law():
    i, j = torch.tensor([0]), torch.tensor([1])
    coefficients = torch.zeros(1, 14, dtype=torch.float64)
    coefficients[0, 0] = -0.01  # attraction 1 / r^2 over a hundredth of a time unit
    pos = torch.tensor([[0.5, 0.0], [-0.5, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(
        kick(pos, coefficients, i, j, None), torch.tensor([[-0.01, 0.0], [0.01, 0.0]]).double(), rtol=1e-5, atol=0
    )


def test_coincident_bodies_give_finite_gradients():
    systems, network = batch((3,)), model()
    pos = systems.pos.clone()
    pos[1] = pos[0]
    pos.requires_grad_()
    found = network(systems.replaced(pos=pos)).pos
    assert torch.isfinite(found).all()
    assert torch.isfinite(torch.autograd.grad(found.sum(), pos)[0]).all()


def test_steps_while_training_and_after():
    systems, network = batch(), model()
    trained, evaluated = network.train()(systems).pos, network.eval()(systems).pos
    assert not torch.equal(trained, evaluated)
    torch.testing.assert_close(trained, evaluated, rtol=0, atol=0.5)


def test_bounded_shortens_long_vectors_alone():
    vectors = torch.tensor([[3.0, 4.0], [0.03, 0.04], [0.0, 0.0]])
    torch.testing.assert_close(bounded(vectors, 0.1), torch.tensor([[0.06, 0.08], [0.03, 0.04], [0.0, 0.0]]))
