"""Equiformer: symmetry, edge cases and derivatives of the layer and the model."""

import e3nn.o3
import pytest
import torch

from geoattn.errors import ShapeError
from geoattn.geometry.clebsch_gordan import clebsch_gordan
from geoattn.geometry.clebsch_gordan_table import clebsch_gordan_paths
from geoattn.geometry.edge_basis import EdgeBasis
from geoattn.kernels import BilinearTable, Neighborhood
from geoattn.layers.equiformer import DepthwiseAttention
from geoattn.models.equiformer import Equiformer

CUTOFF = 3.0


def model(lmax: int = 2, **options) -> Equiformer:
    torch.manual_seed(0)
    return Equiformer(3, 8, 2, lmax, 2, edge_channels=8, cutoff=CUTOFF, num_radial=4, **options).double()


def all_pairs(sizes: list[int]) -> torch.Tensor:
    first, pairs = 0, []
    for size in sizes:
        index = torch.arange(first, first + size)
        pairs.append(torch.stack([index.repeat(size), index.repeat_interleave(size)]))
        first += size
    edges = torch.cat(pairs, dim=1)
    return edges[:, edges[0] != edges[1]]


def atoms(num: int, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    species = torch.randint(3, (num,), generator=generator)
    return species, torch.randn(num, 3, dtype=torch.float64, generator=generator)


def turned(features: torch.Tensor, rotation: torch.Tensor, parity: bool) -> torch.Tensor:
    """Features under ``rotation``, and a point reflection if ``parity``."""
    lmax = round(features.shape[1] ** 0.5) - 1
    angles = e3nn.o3.matrix_to_angles(rotation)
    blocks = []
    for degree, block in enumerate(features.split([2 * degree + 1 for degree in range(lmax + 1)], dim=1)):
        sign = (-1) ** degree if parity else 1
        blocks.append(sign * e3nn.o3.wigner_D(degree, *angles) @ block)
    return torch.cat(blocks, dim=1)


@pytest.fixture(autouse=True)
def _double_matrices():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # e3nn makes its matrices in it
    yield
    torch.set_default_dtype(before)


@pytest.mark.parametrize("parity", [False, True])
@pytest.mark.parametrize("lmax", [1, 2, 3])
def test_equivariant_to_o3_translation_and_permutation(lmax: int, parity: bool):
    network, edges = model(lmax), all_pairs([7])
    species, pos = atoms(7)
    rotation = e3nn.o3.rand_matrix()
    moved = pos @ rotation.T * (-1 if parity else 1) + 5
    expected = turned(network(species, pos, edges), rotation, parity)
    torch.testing.assert_close(network(species, moved, edges), expected, rtol=1e-10, atol=1e-10)
    order = torch.randperm(7)
    where = torch.argsort(order)
    permuted = network(species[order], pos[order], where[edges])
    torch.testing.assert_close(permuted, network(species, pos, edges)[order], rtol=1e-10, atol=1e-10)


def test_a_product_out_of_place_breaks_the_symmetry():
    network, edges = model(), all_pairs([6])
    attention = network.layers[0].attention
    t = attention.table
    attention.table = BilinearTable(t.index_x, t.index_y, t.index_out.roll(1), t.path, t.value, t.sizes)
    species, pos = atoms(6)
    rotation = e3nn.o3.rand_matrix()
    expected = turned(network(species, pos, edges), rotation, False)
    assert (network(species, pos @ rotation.T, edges) - expected).abs().max() > 1e-3


def test_attention_is_its_formula_edge_by_edge():
    torch.manual_seed(0)
    lmax, channels, heads = 2, 4, 2
    layer = DepthwiseAttention(lmax, channels, heads, edge_channels=3, hidden_channels=6).double()
    _, pos = atoms(5)
    nbr = Neighborhood.from_edge_index(all_pairs([5]), 5).in_csr_order()
    basis = EdgeBasis.build(pos, nbr, cutoff=CUTOFF)
    x, a = torch.randn(5, 9, channels), torch.randn(nbr.num_edges, 3)
    values, y = layer.values(x), basis.harmonics(lmax)
    hidden = torch.nn.functional.silu(
        layer.target(x[:, 0])[nbr.target] + layer.source(x[:, 0])[nbr.source] + layer.edge(a)
    )
    strength = layer.logits(hidden).exp() * basis.weight[:, None]
    expected = torch.zeros(5, 9, channels)
    for e in range(nbr.num_edges):
        i, j = nbr.target[e], nbr.source[e]
        alpha = strength[e] / strength[nbr.target == i].sum(0) * basis.weight[e]
        weight = layer.paths(hidden[e] * alpha.repeat_interleave(3)).view(-1, channels)
        for p, (l1, l2, l3) in enumerate(clebsch_gordan_paths(lmax, lmax, lmax, reflections=True)):
            product = torch.einsum(
                "abk,ac,b->kc",
                clebsch_gordan(l1, l2, l3),
                values[j, l1**2 : (l1 + 1) ** 2],
                y[e, l2**2 : (l2 + 1) ** 2],
            )
            expected[i, l3**2 : (l3 + 1) ** 2] += product * weight[p]
    torch.testing.assert_close(layer(x, basis, a), layer.out(expected), rtol=1e-12, atol=1e-12)


def test_two_molecules_are_each_alone():
    network = model()
    species, pos = atoms(9)
    both = network(species, pos, all_pairs([4, 5]))
    torch.testing.assert_close(both[:4], network(species[:4], pos[:4], all_pairs([4])), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(both[4:], network(species[4:], pos[4:], all_pairs([5])), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("num", [0, 1, 3])
def test_without_edges_atoms_have_features_of_their_species(num: int):
    species = torch.zeros(num, dtype=torch.long)
    out = model()(species, torch.randn(num, 3), torch.empty(2, 0, dtype=torch.long))
    assert out.shape == (num, 9, 8)
    assert torch.isfinite(out).all()
    assert (out[:, 1:] == 0).all()


@pytest.mark.parametrize("place", ["apart", "coincident", "on the axes"])
def test_energy_has_right_first_and_second_derivatives(place: str):
    network, edges = model(lmax=1), all_pairs([3])
    species, pos = atoms(3)
    if place == "coincident":
        pos[1] = pos[0]
        forces = torch.autograd.functional.hessian(lambda r: network(species, r, edges)[:, 0].sum(), pos)
        assert torch.isfinite(forces).all()
        return
    if place == "on the axes":
        pos = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 0, -1]])
    pos.requires_grad_()

    def energy(r: torch.Tensor) -> torch.Tensor:
        return network(species, r, edges)[:, 0, :2].sum()

    assert torch.autograd.gradcheck(energy, (pos,), rtol=1e-6)
    assert torch.autograd.gradgradcheck(energy, (pos,), rtol=1e-5)


def test_energy_is_smooth_where_a_neighbour_leaves():
    network, edges = model(lmax=1), all_pairs([2])
    species = torch.tensor([0, 1])

    def derivatives(distance: float) -> torch.Tensor:
        d = torch.tensor(distance, requires_grad=True)
        pos = torch.stack([torch.zeros(3), d * torch.tensor([0.6, 0.0, 0.8])])
        energy = network(species, pos, edges)[:, 0].sum()
        first = torch.autograd.grad(energy, d, create_graph=True)[0]
        second = torch.autograd.grad(first, d)[0] if first.requires_grad else torch.zeros(())
        return torch.stack([energy.detach(), first.detach(), second])

    inside, outside = derivatives(CUTOFF - 1e-4), derivatives(CUTOFF + 1e-4)
    torch.testing.assert_close(inside, outside, rtol=0, atol=1e-2)


@pytest.mark.parametrize(
    "wrong", [{"num_layers": 0}, {"channels": 0}, {"average_degree": 0.0}, {"cutoff": -1.0}, {"num_heads": 3}]
)
def test_arguments_that_cannot_work_are_named(wrong: dict):
    with pytest.raises(ShapeError, match=next(iter(wrong))):
        Equiformer(**{"num_species": 2, "channels": 8, "edge_channels": 8, **wrong})


@pytest.mark.parametrize("species", [torch.tensor([0, 3]), torch.tensor([-1, 0]), torch.tensor([0.0, 1.0])])
def test_species_that_the_model_has_not_are_named(species: torch.Tensor):
    with pytest.raises(ShapeError, match="species"):
        model()(species, torch.randn(2, 3), all_pairs([2]))
