import pytest
import torch
from torch_geometric.data import Batch, Data

from geoattn.datasets.collate import collate
from geoattn.datasets.sampler import EpochShuffle


def sample(num_nodes, num_edges, row=0):
    edge_index = torch.randint(max(num_nodes, 1), (2, num_edges))
    return Data(
        z=torch.randint(1, 9, (num_nodes,)),
        pos=torch.randn(num_nodes, 3),
        edge_index=edge_index,
        edge_attr=torch.randn(num_edges, 4),
        y=torch.randn(1, 2),
        row=torch.tensor([row]),
    )


@pytest.mark.parametrize("sizes", [[(5, 8), (1, 0), (63, 100)], [(1, 0)], [(3, 2)] * 4])
def test_same_batch_as_pyg(sizes):
    samples = [sample(*size, row=i) for i, size in enumerate(sizes)]
    ours, theirs = collate(samples), Batch.from_data_list(samples)
    assert set(ours.keys()) == set(theirs.keys()) and ours.num_graphs == theirs.num_graphs == len(sizes)
    for key in theirs.keys():  # noqa: SIM118
        assert torch.equal(ours[key], theirs[key]), key
        assert ours[key].dtype == theirs[key].dtype, key


def test_batch_comes_apart_again():
    samples = [sample(4, 6), sample(2, 1), sample(7, 9)]
    batch = collate(samples)
    for before, after in zip(samples, batch.to_data_list(), strict=True):
        assert all(torch.equal(before[key], after[key]) for key in before.keys())  # noqa: SIM118
    assert torch.equal(batch[2].pos, samples[2].pos)


def test_samples_are_not_changed():
    samples = [sample(4, 6), sample(4, 6)]
    before = [s.edge_index.clone() for s in samples]
    collate(samples)
    assert all(torch.equal(s.edge_index, b) for s, b in zip(samples, before, strict=True))


def test_unknown_field():
    data = sample(3, 2)
    data["charge"] = torch.zeros(3)
    with pytest.raises(KeyError, match="charge"):
        collate([data, data])


def test_order_depends_on_seed_and_epoch_alone():
    order = EpochShuffle(100, seed=3)
    orders = []
    for epoch in range(3):
        order.set_epoch(epoch)
        orders.append(list(order))
    assert sorted(orders[0]) == list(range(100)) and orders[0] != orders[1] != orders[2]
    torch.manual_seed(99)
    resumed = EpochShuffle(100, seed=3)
    resumed.set_epoch(2)
    assert list(resumed) == orders[2]
    assert list(EpochShuffle(100, seed=4)) != orders[0]


def test_order_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    list(EpochShuffle(10))
    assert torch.equal(torch.get_rng_state(), before)
