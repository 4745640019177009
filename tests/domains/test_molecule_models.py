"""The molecules' models: symmetry, batching, over-fitting, unknown elements, configuration."""

import pytest
import torch
from torch_geometric.data import Batch, Data

from geoattn.domains.molecules.egnn_model import EGNNModel
from geoattn.domains.molecules.graph_attention_model import GraphAttentionModel
from geoattn.domains.molecules.pooling import pool
from geoattn.errors import InputError, ShapeError


def molecule(num_atoms: int, seed: int) -> Data:
    """Random atoms with all pairs as edges in 3-D, a chain of bonds as drawn."""
    generator = torch.Generator().manual_seed(seed)
    pairs = torch.cartesian_prod(torch.arange(num_atoms), torch.arange(num_atoms))
    return Data(
        z=torch.tensor([1, 6, 8])[torch.randint(0, 3, (num_atoms,), generator=generator)],
        pos=torch.randn(num_atoms, 3, generator=generator),
        edge_index=pairs[pairs[:, 0] != pairs[:, 1]].T.flip(0).contiguous(),
        y=torch.randn(1, 2, generator=generator),
    )


def drawn(num_atoms: int, seed: int) -> Data:
    generator = torch.Generator().manual_seed(seed)
    chain = torch.arange(num_atoms - 1)
    edge_index = torch.cat([torch.stack([chain, chain + 1]), torch.stack([chain + 1, chain])], dim=1)
    return Data(
        x=torch.randn(num_atoms, 5, generator=generator),
        edge_index=edge_index,
        edge_attr=torch.randn(edge_index.shape[1], 3, generator=generator),
        descriptors=torch.randn(1, 4, generator=generator),
        y=torch.randn(1, 2, generator=generator),
    )


def egnn(**options) -> EGNNModel:
    torch.manual_seed(0)
    return EGNNModel(2, [1, 6, 8], **({"hidden_channels": 16, "num_layers": 2, "num_rbf": 8} | options)).eval()


def attention(**options) -> GraphAttentionModel:
    torch.manual_seed(0)
    defaults = {"hidden_channels": 16, "num_layers": 2, "num_heads": 2, "num_descriptors": 4}
    return GraphAttentionModel(5, 3, 2, **(defaults | options)).eval()


CASES = [pytest.param(egnn, molecule, id="egnn"), pytest.param(attention, drawn, id="graph-attention")]


@pytest.mark.parametrize("pooling", ["sum", "mean"])
@pytest.mark.parametrize(("model", "sample"), CASES)
def test_a_molecule_alone_equals_the_molecule_in_a_batch(model, sample, pooling):
    samples, network = [sample(n, n) for n in (1, 5, 9)], model(pooling=pooling)
    together = network(Batch.from_data_list(samples))
    for row, one in zip(together, samples, strict=True):
        torch.testing.assert_close(network(one)[0], row, atol=1e-5, rtol=1e-5)


def test_egnn_is_invariant_in_float64():
    network, one = egnn().double(), molecule(8, 1)
    one.pos = one.pos.double()
    moved = one.clone()
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))
    moved.pos = one.pos @ rotation.T + 3.0
    torch.testing.assert_close(network(moved), network(one), atol=1e-10, rtol=1e-10)


def test_egnn_sees_the_geometry():
    network, one = egnn(), molecule(8, 1)
    stretched = one.clone()
    stretched.pos = one.pos * 1.2
    assert not torch.allclose(network(stretched), network(one))


@pytest.mark.parametrize(("model", "sample"), CASES)
def test_over_fits_a_few_samples(model, sample):
    batch = Batch.from_data_list([sample(4 + n, n) for n in range(8)])
    network = model(pooling="mean").train()
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(400):
        loss = (network(batch) - batch.y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.02


@pytest.mark.parametrize(("model", "sample"), CASES)
def test_configuration_rebuilds_the_model(model, sample):
    network, one = model(), sample(5, 0)
    twin = type(network)(**network.config).eval()
    twin.load_state_dict(network.state_dict())
    assert torch.equal(twin(one), network(one))


def test_unknown_element_is_named():
    one = molecule(4, 0)
    one.z[0] = 17
    with pytest.raises(InputError, match=r"\[17\], the model knows \[1, 6, 8\]"):
        egnn()(one)


def test_missing_descriptors_are_named():
    one = drawn(4, 0)
    del one.descriptors
    with pytest.raises(ShapeError, match="batch.descriptors: got None"):
        attention()(one)


def test_pooling_adds_or_averages():
    x = torch.tensor([[1.0], [2.0], [6.0]])
    molecule = torch.tensor([0, 0, 2])
    assert pool(x, molecule, 3, "sum").flatten().tolist() == [3, 0, 6]
    assert pool(x, molecule, 3, "mean").flatten().tolist() == [1.5, 0, 6]
