import pytest
import torch

from geoattn.errors import ShapeError
from geoattn.geometry.edge_basis import EdgeBasis
from geoattn.geometry.edges import bessel_basis, gaussian_basis, polynomial_envelope
from geoattn.geometry.harmonics import spherical_harmonics
from geoattn.kernels import Neighborhood
from geoattn.testing import assert_equivariant


def graph(num_nodes=8, num_edges=20):
    source = torch.randint(num_nodes, (num_edges,))
    target = (source + torch.randint(1, num_nodes, (num_edges,))) % num_nodes
    edge_index = torch.stack([source, target])
    return torch.randn(num_nodes, 3, dtype=torch.float64), edge_index


def test_values_in_csr_order():
    pos, edge_index = graph()
    nbr = Neighborhood.from_edge_index(edge_index, 8)
    shift = torch.randn(20, 3, dtype=torch.float64)
    basis = EdgeBasis.build(pos, nbr, cutoff=3.0, shift=shift)
    vector = (pos[edge_index[0]] - pos[edge_index[1]] + shift)[nbr.edge_id]
    distance = vector.norm(dim=-1)
    assert basis.nbr is nbr.in_csr_order() and not torch.equal(nbr.edge_id, basis.nbr.edge_id)
    torch.testing.assert_close(basis.vector, vector)
    torch.testing.assert_close(basis.distance, distance)
    torch.testing.assert_close(basis.unit, vector / distance[:, None])
    torch.testing.assert_close(basis.weight, polynomial_envelope(distance, 3.0))
    torch.testing.assert_close(basis.harmonics(3), spherical_harmonics(basis.unit, 3))
    torch.testing.assert_close(basis.radial(5), gaussian_basis(distance, 0.0, 3.0, 5))
    torch.testing.assert_close(basis.radial(5, "bessel", 7.0), bessel_basis(distance, 7.0, 5))
    assert (basis.weight > 0).any() and (basis.weight == 0).any()


def test_edges_of_length_zero():
    pos = torch.zeros(2, 3, requires_grad=True)
    basis = EdgeBasis.build(pos, Neighborhood.from_edge_index(torch.tensor([[0, 0], [0, 1]]), 2))
    for value in (basis.weight, basis.unit, basis.harmonics(2)[:, 1:]):
        assert not value.any()
    total = sum(v.sum() for v in (basis.distance, basis.unit, basis.harmonics(3), basis.frame(2, 2).rotation))
    (first,) = torch.autograd.grad(total, pos, create_graph=True)
    assert not first.any()


def test_made_once_and_with_gradients_where_they_are_wanted():
    pos, edge_index = graph()
    basis = EdgeBasis.build(pos.requires_grad_(), Neighborhood.from_edge_index(edge_index, 8), cutoff=5.0)
    makers = [
        lambda: basis.harmonics(2),
        lambda: basis.frame(2, 1),
        lambda: basis.radial(4),
        lambda: basis.radial(4, "bessel"),
    ]
    for make in makers:
        with torch.no_grad():
            silent = make()
            assert make() is silent
        value = make()
        assert make() is value
        tensor = getattr(value, "rotation", value)
        assert tensor.requires_grad and not getattr(silent, "rotation", silent).requires_grad
    assert basis.harmonics(3).shape != basis.harmonics(2).shape
    assert basis.radial(4, cutoff=2.0) is not basis.radial(4)


def test_detach():
    pos, edge_index = graph()
    nbr = Neighborhood.from_edge_index(edge_index, 8)
    basis = EdgeBasis.build(pos.requires_grad_(), nbr, cutoff=5.0)
    detached = basis.detach()
    for name in ("vector", "distance", "unit", "weight"):
        assert getattr(basis, name).requires_grad and not getattr(detached, name).requires_grad
        assert torch.equal(getattr(basis, name), getattr(detached, name))
    assert basis.harmonics(2).requires_grad and not detached.harmonics(2).requires_grad
    assert torch.equal(basis.radial(3), detached.radial(3))


def test_no_edges():
    basis = EdgeBasis.build(
        torch.randn(3, 3), Neighborhood.from_edge_index(torch.empty(2, 0, dtype=torch.long), 3), 2.0
    )
    assert basis.weight.shape == (0,) and basis.harmonics(2).shape == (0, 9) and basis.radial(4).shape == (0, 4)
    assert basis.frame(2, 1).rotation.shape == (0, 7, 9)


def test_symmetry():
    pos, edge_index = graph()

    def harmonics(pos, edge_index):
        basis = EdgeBasis.build(pos, Neighborhood.from_edge_index(edge_index, 8), cutoff=4.0)
        back = edge_index[1].argsort(stable=True).argsort()
        return {"Y": basis.harmonics(3)[back], "weight": basis.weight[back]}

    assert_equivariant(
        harmonics,
        {"pos": pos, "edge_index": edge_index},
        group="E(3)",
        in_specs={"pos": "position/node", "edge_index": "edge_index"},
        out_specs={"Y": "0e+1o+2e+3o/edge", "weight": "invariant/edge"},
    )


@pytest.mark.slow
def test_compiles():
    pos, edge_index = graph()
    nbr = Neighborhood.from_edge_index(edge_index, 8)
    x = torch.randn(20, 9, 2, dtype=torch.float64)

    def energy(pos):
        basis = EdgeBasis.build(pos, nbr, cutoff=4.0)
        frame = basis.frame(2, 1)
        z = frame.rotate(x * basis.harmonics(2)[:, :, None])
        return (frame.rotate_back(z)[:, 0, 0] * basis.weight * basis.radial(3, "bessel").sum(-1)).pow(2).sum()

    torch.compiler.reset()
    compiled = torch.compile(energy, fullgraph=True, backend="aot_eager")
    (force,), (expected,) = (
        torch.autograd.grad(f(pos), pos) for f in (compiled, energy) if pos.requires_grad_() is pos
    )
    torch.testing.assert_close(force, expected)


def test_arguments_that_do_not_fit_are_named():
    nbr = Neighborhood.from_edge_index(torch.tensor([[0], [1]]), 2)
    with pytest.raises(ShapeError, match=r"^pos: got shape \(2, 2\), expected \[N, 3\]"):
        EdgeBasis.build(torch.randn(2, 2), nbr)
    basis = EdgeBasis.build(torch.randn(2, 3), nbr)
    with pytest.raises(ShapeError, match=r"^cutoff: got None"):
        basis.radial(4)
    with pytest.raises(ShapeError, match=r"^kind: got 'sine', expected 'gaussian' or 'bessel'"):
        basis.radial(4, "sine", 2.0)
