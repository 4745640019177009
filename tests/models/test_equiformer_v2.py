"""EquiformerV2: the contract of a layer, smoothness at the cutoff, forces, depth, and heads."""

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck

from geoattn.errors import ShapeError
from geoattn.geometry.wigner import wigner_d
from geoattn.kernels import Neighborhood
from geoattn.models.equiformer_v2 import DirectForceHead, EnergyHead, EquiformerV2
from geoattn.testing import LayerContract, Spec, assert_equivariant, random_orthogonal

F64 = torch.float64


def turn(x, rotation):
    return torch.block_diag(*wigner_d(rotation, round(x.shape[1] ** 0.5) - 1)) @ x


def all_pairs(num):
    edges = torch.cartesian_prod(torch.arange(num), torch.arange(num)).T
    return edges[:, edges[0] != edges[1]]


def molecule(num=6, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, (num,), generator=generator), torch.randn(num, 3, generator=generator, dtype=F64)


class Energy(nn.Module):
    """The sum of the atoms' energies."""

    def __init__(self, **options):
        super().__init__()
        self.model = EquiformerV2(3, 6, 2, num_heads=2, edge_channels=6, alpha_channels=4, num_radial=8, **options)
        self.head = EnergyHead(6)

    def forward(self, species, pos, edge_index, shift=None):
        return self.head(self.model(species, pos, edge_index, shift)).sum()


def energy(seed=0, **options):
    torch.manual_seed(seed)
    return Energy(**{"cutoff": 4.0, **options}).double()


class TestEquiformerV2(LayerContract):
    in_specs = {"species": "invariant/node", "pos": "position/node", "edge_index": "edge_index"}
    out_specs = {"x": Spec(lambda x, element: turn(x, element.rotation), "node")}
    group = "SE(3)"

    def test_gradients(self):
        """Covered by the tests of forces and of second derivatives below, in a tenth of the time."""

    def layer(self):
        return EquiformerV2(
            3, 4, 2, lmax=2, mmax=1, num_heads=2, edge_channels=4, alpha_channels=4, cutoff=4.0, num_radial=4
        )

    def inputs(self, graph):
        species = torch.arange(graph.num_nodes) % 3
        return {"species": species, "pos": graph.pos, "edge_index": graph.edge_index}


@pytest.mark.parametrize("activation", ["gate", "separable_s2"])
def test_deep_model_in_float32(activation):
    """Twelve layers of degree 6: each degree to 1e-4 with the gate, to the grid's error on the sphere."""
    torch.manual_seed(0)
    options = {"activation": activation, "grid_resolution": 26}
    model = EquiformerV2(3, 8, 12, 6, 2, 2, edge_channels=8, alpha_channels=4, cutoff=4.0, **options)
    species, pos = molecule(8)
    rotation = random_orthogonal(3)
    with torch.no_grad():
        before = turn(model(species, pos.float(), all_pairs(8)).double(), rotation)
        after = model(species, (pos @ rotation.T).float(), all_pairs(8)).double()
    for degree in range(7):
        rows = slice(degree**2, (degree + 1) ** 2)
        error = (after - before)[:, rows].abs().max() / before[:, rows].abs().max()
        assert error < (1e-4 if activation == "gate" else 1e-2), f"degree {degree}"


def test_untruncated_model_has_every_order():
    """mmax defaults to lmax, and lower orders make another model."""
    species, pos = molecule()
    whole, same, fewer = (energy(mmax=mmax, lmax=2) for mmax in (None, 2, 1))
    assert whole(species, pos, all_pairs(6)) == same(species, pos, all_pairs(6))
    assert sum(p.numel() for p in fewer.parameters()) < sum(p.numel() for p in whole.parameters())


def test_two_molecules_in_a_batch_are_two_molecules():
    model = energy().model
    (first, pos), (second, other) = molecule(6), molecule(4, seed=2)
    edges = torch.cat([all_pairs(6), all_pairs(4) + 6], dim=1)
    together = model(torch.cat([first, second]), torch.cat([pos, other]), edges)
    torch.testing.assert_close(together[:6], model(first, pos, all_pairs(6)))
    torch.testing.assert_close(together[6:], model(second, other, all_pairs(4)))


def test_isolated_atom_has_its_species_alone():
    model = energy().model
    species, pos = torch.tensor([2, 0]), torch.zeros(2, 3, dtype=F64)
    with torch.no_grad():
        x = model(species, pos, torch.zeros(2, 0, dtype=torch.long))
    assert x[:, 0].abs().max() > 0.1
    assert x[:, 1:].abs().max() == 0


def test_energy_and_two_derivatives_are_continuous_at_the_cutoff():
    """An atom crosses the cutoffs of two others, one of which has no further neighbour."""
    model = energy(cutoff=2.0)
    species = torch.tensor([0, 1, 2, 1])
    away = torch.tensor([0.0, 0.6, 0.8], dtype=F64)
    still = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]], dtype=F64)
    still[2] = 4 * away  # the only neighbour that it can have is the one that moves

    def derivatives(distance):
        r = torch.tensor(distance, dtype=F64, requires_grad=True)
        pos = torch.cat([still, (r * away)[None]])
        near = (torch.cdist(pos, pos) < 2.0).fill_diagonal_(False).nonzero().T
        value = model(species, pos, near)
        (first,) = torch.autograd.grad(value, r, create_graph=True)
        (second,) = torch.autograd.grad(first, r)
        return torch.stack([value, first, second]).detach()

    step = 1e-7
    inside, outside = derivatives(2.0 - step), derivatives(2.0 + step)
    torch.testing.assert_close(inside, outside, atol=1e-4, rtol=0)
    assert (derivatives(1.3) - derivatives(1.5)).abs().min() > 1e-4  # there is something to be continuous


def test_forces_are_the_slope_of_the_energy():
    model = energy(lmax=3, mmax=2)
    species, pos = molecule()
    edges = all_pairs(6)
    pos.requires_grad_()
    (gradient,) = torch.autograd.grad(model(species, pos, edges), pos)
    step = 1e-5
    for atom, axis in ((0, 0), (2, 1), (5, 2)):
        shift = torch.zeros_like(pos)
        shift[atom, axis] = step
        with torch.no_grad():
            slope = (model(species, pos + shift, edges) - model(species, pos - shift, edges)) / (2 * step)
        torch.testing.assert_close(gradient[atom, axis], slope, atol=1e-8, rtol=1e-7)


@pytest.mark.parametrize("options", [{}, {"activation": "separable_s2", "grid_resolution": 6}, {"max_edges": 5}])
def test_second_derivatives_of_the_energy(options):
    """By positions and by all parameters, as force training takes them."""
    model = energy(**options)
    species, pos = molecule(4)
    parameters = dict(model.named_parameters())
    sizes = [p.numel() for p in parameters.values()]

    def value(pos, flat):
        parts = flat.split(sizes)
        weights = {name: part.view_as(p) for part, (name, p) in zip(parts, parameters.items(), strict=True)}
        return torch.func.functional_call(model, weights, (species, pos, all_pairs(4)))

    flat = torch.cat([p.detach().flatten() for p in parameters.values()])
    arguments = (pos.requires_grad_(), flat.requires_grad_())
    assert gradcheck(value, arguments, fast_mode=True)
    assert gradgradcheck(value, arguments, fast_mode=True)


def test_fewer_edges_at_a_time_change_no_derivative():
    plain, again = energy(), energy(max_edges=11)
    species, pos = molecule()
    results = []
    for model in (plain, again):
        leaf = pos.clone().requires_grad_()
        value = model(species, leaf, all_pairs(6))
        (gradient,) = torch.autograd.grad(value, leaf, create_graph=True)
        (value + gradient.square().sum()).backward()
        results.append([value.detach(), gradient.detach(), leaf.grad, *(p.grad for p in model.parameters())])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def test_edges_along_every_axis_and_coincident_atoms():
    """Finite first and second derivatives where frames change their chart, and where there is no frame."""
    model = energy()
    pos = torch.cat([torch.zeros(2, 3), torch.eye(3), -torch.eye(3)]).double().requires_grad_()
    species = torch.arange(8) % 3
    (first,) = torch.autograd.grad(model(species, pos, all_pairs(8)), pos, create_graph=True)
    leaves = [pos, *model.parameters()]
    second = torch.autograd.grad(first.square().sum(), leaves, allow_unused=True)  # the energy's offset has none
    assert torch.isfinite(first).all() and all(torch.isfinite(g).all() for g in second if g is not None)


def test_coincident_atoms_send_nothing():
    model = energy().model
    species, pos = molecule()
    pos[1] = pos[0]
    edges = all_pairs(6)
    apart = edges[:, ~((edges[0] < 2) & (edges[1] < 2))]
    torch.testing.assert_close(model(species, pos, edges), model(species, pos, apart))


def test_beyond_the_cutoff_is_no_edge():
    model = energy(cutoff=2.7).model
    species, pos = molecule()
    edges = all_pairs(6)
    near = (pos[edges[0]] - pos[edges[1]]).norm(dim=1) < 2.7
    assert 0 < near.sum() < len(near)
    torch.testing.assert_close(model(species, pos, edges), model(species, pos, edges[:, near]))


def test_periodic_images():
    """A periodic chain and the same chain with two of its cells as one."""
    model = energy(cutoff=2.5).model
    species, pos = molecule(3)
    cell = torch.tensor([3.0, 0.5, 0.0], dtype=F64)

    def features(species, pos, cell):
        edges, shifts = [], []
        for image in (-1, 0, 1):
            shift = image * cell
            distance = torch.cdist(pos + shift, pos)
            edges.append(((distance < 2.5) & (distance > 0)).nonzero().T)
            shifts.append(shift.expand(edges[-1].shape[1], 3))
        return model(species, pos, torch.cat(edges, dim=1), torch.cat(shifts))

    once = features(species, pos, cell)
    twice = features(species.repeat(2), torch.cat([pos, pos + cell]), 2 * cell)
    torch.testing.assert_close(twice, once.repeat(2, 1, 1))
    assert (once - model(species, pos, all_pairs(3))).abs().max() > 1e-3


def test_neighborhood_in_any_order():
    model = energy().model
    species, pos = molecule()
    edges = all_pairs(6)[:, torch.randperm(30)]
    expected = model(species, pos, edges)
    torch.testing.assert_close(model(species, pos, Neighborhood.from_edge_index(edges, 6)), expected)


def test_direct_forces_turn_with_the_molecule():
    torch.manual_seed(0)
    model = EquiformerV2(3, 8, 1, 2, 1, 2, edge_channels=8, alpha_channels=4, cutoff=4.0, num_radial=4).double()
    head = DirectForceHead(8, lmax=2, mmax=1, num_heads=2, edge_channels=8, alpha_channels=4).double()
    species, pos = molecule()

    def forces(pos, edge_index):
        basis, edge_scalars = model.edge_features(species, pos, edge_index)
        return head(model.node_features(species, basis, edge_scalars), basis, edge_scalars)

    specs = {"pos": "position/node", "edge_index": "edge_index"}
    inputs = {"pos": pos, "edge_index": all_pairs(6)}
    assert_equivariant(forces, inputs, in_specs=specs, out_specs={"forces": "vector/node"}, group="SE(3)")
    assert forces(**inputs).abs().max() > 0.01
    assert forces(pos, torch.zeros(2, 0, dtype=torch.long)).abs().max() == 0
    with pytest.raises(ShapeError, match="lmax: got 0"):
        DirectForceHead(8, lmax=0, mmax=0, num_heads=2, edge_channels=8)


@pytest.mark.slow
def test_learns_ten_molecules():
    """Energies and forces of a pair potential."""
    torch.manual_seed(0)
    model = Energy(cutoff=4.0)
    samples = [molecule(4, seed) for seed in range(10)]
    species = torch.cat([s for s, _ in samples])
    pos = torch.cat([p for _, p in samples]).float()
    edges = torch.cat([all_pairs(4) + 4 * k for k in range(10)], dim=1)
    pair = (species[edges[0]] + species[edges[1]]).float()

    def truth(pos):
        distance = (pos[edges[0]] - pos[edges[1]]).norm(dim=1)
        return ((1 + pair) * torch.exp(-distance)).sum()

    pos.requires_grad_()
    (expected,) = torch.autograd.grad(truth(pos), pos)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(300):
        (gradient,) = torch.autograd.grad(model(species, pos, edges), pos, create_graph=True)
        loss = (gradient - expected).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.01 * expected.square().mean()


def test_wrong_shapes_are_named():
    model = EquiformerV2(3, 4, 1, num_heads=2)
    with pytest.raises(ShapeError, match=r"species: got shape \(2,\), expected \[N = 3\]"):
        model(torch.zeros(2, dtype=torch.long), torch.zeros(3, 3), torch.zeros(2, 0, dtype=torch.long))
    with pytest.raises(ShapeError, match="pos: got shape"):
        model(torch.zeros(3, dtype=torch.long), torch.zeros(3, 2), torch.zeros(2, 0, dtype=torch.long))
