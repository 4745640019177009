"""Random elements are what they claim to be, and specs act as declared."""

import pytest
import torch

from geoattn.errors import InputError, ShapeError
from geoattn.kernels import Neighborhood
from geoattn.testing import Element, Group, Spec, random_orthogonal
from geoattn.testing.groups import count_rows, merge, permutable_rows


def generator():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("dim", [1, 2, 3, 5])
@pytest.mark.parametrize("determinant", [1, -1])
def test_random_orthogonal_has_the_determinant_asked_for(dim, determinant):
    source = generator()
    for _ in range(10):
        matrix = random_orthogonal(dim, determinant, source)
        torch.testing.assert_close(matrix @ matrix.T, torch.eye(dim, dtype=torch.float64), atol=1e-12, rtol=0)
        assert torch.linalg.det(matrix).item() == pytest.approx(determinant)


def test_random_rotations_are_spread_evenly():
    """E[trace] = 0 and E[trace^2] = 1 under the uniform measure of SO(3); QR without sign fixing fails this."""
    source = generator()
    traces = torch.stack([random_orthogonal(3, 1, source).trace() for _ in range(4000)])
    assert abs(traces.mean()) < 0.06
    assert abs(traces.square().mean() - 1) < 0.1


@pytest.mark.parametrize(
    ("group", "mirrors", "moves"),
    [
        ("O(3)", True, False),
        ("SO(3)", False, False),
        ("E(2)", True, True),
        ("SE(4)", False, True),
        ("T(3)", False, True),
    ],
)
def test_elements_belong_to_their_group(group, mirrors, moves):
    source = generator()
    elements = [Group.parse(group).element(trial, {}, source) for trial in range(4)]
    determinants = [round(float(torch.linalg.det(e.rotation))) for e in elements]
    assert determinants == ([1, -1, 1, -1] if mirrors else [1, 1, 1, 1])
    assert all(bool(e.translation.abs().max() > 0) == moves for e in elements)
    if group.startswith("T"):
        assert all(torch.equal(e.rotation, torch.eye(3, dtype=torch.float64)) for e in elements)


@pytest.mark.parametrize("text", ["U(3)", "SO3", "SO(0)", "", "E(n)"])
def test_unknown_groups_are_refused(text):
    with pytest.raises(InputError, match="expected O"):
        Group.parse(text)


def test_permutations_stay_within_graphs():
    batch = torch.tensor([0, 0, 0, 1, 1, 2])
    specs = {"batch": Spec.parse("batch"), "x": Spec.parse("invariant/node")}
    rows = permutable_rows({"batch": batch, "x": torch.zeros(6, 2)}, specs)
    moved = False
    for trial in range(5):
        permutation = Group.parse("permutation").element(trial, rows, generator()).permutations["node"]
        assert torch.equal(batch[permutation], batch)
        assert sorted(permutation.tolist()) == list(range(6))
        moved |= permutation.tolist() != list(range(6))
    assert moved


def test_permuted_edge_index_connects_the_same_nodes():
    edge_index = torch.tensor([[0, 1, 2, 3], [1, 2, 0, 0]])
    x = torch.arange(4) * 10
    values, specs = {"e": edge_index, "x": x}, {"e": Spec.parse("edge_index"), "x": Spec.parse("invariant/node")}
    element = Group.parse("permutation").element(0, permutable_rows(values, specs), generator())
    for edges in (edge_index, Neighborhood.from_edge_index(edge_index, 4)):
        moved = specs["e"].transform(edges, element)
        moved = moved.edge_index if isinstance(moved, Neighborhood) else moved
        pairs = specs["x"].transform(x, element)[moved]
        assert torch.equal(pairs, x[edge_index][:, element.permutations["edge"]])
        assert not torch.equal(moved, edge_index)


def test_bipartite_ends_are_permuted_apart():
    nbr = Neighborhood.from_edge_index(torch.tensor([[4, 0], [1, 0]]), num_targets=2, num_sources=5)
    specs = {"e": Spec.parse("edge_index/point,centre")}
    assert count_rows({"e": nbr}, specs) == {"point": 5, "centre": 2, "edge": 2}
    element = Element(permutations={"centre": torch.tensor([1, 0]), "edge": torch.tensor([0, 1])})
    moved = specs["e"].transform(nbr, element)
    assert moved.edge_index.tolist() == [[4, 0], [0, 1]]


def test_representations_act_as_declared():
    element = Group.parse("E(3)").element(1, {}, generator())
    rotation, translation = element.rotation, element.translation
    vector = torch.randn(2, 5, 3, dtype=torch.float64)
    assert torch.equal(Spec.parse("invariant").transform(vector, element), vector)
    rotated = torch.einsum("ij,abj->abi", rotation, vector)
    torch.testing.assert_close(Spec.parse("vector").transform(vector, element), rotated)
    torch.testing.assert_close(Spec.parse("position").transform(vector, element), rotated + translation)
    own = Spec(lambda value, g: torch.linalg.det(g.rotation) * value)
    torch.testing.assert_close(own.transform(vector, element), -vector)


def test_irreps_agree_with_vectors_and_parity():
    element = Group.parse("O(3)").element(1, {}, generator())
    vector = torch.randn(4, 6, dtype=torch.float64)
    moved = Spec.parse("2x1o/node").transform(vector, element)
    torch.testing.assert_close(moved, (vector.view(4, 2, 3) @ element.rotation.T).view(4, 6))
    pseudo = Spec.parse("0o + 0e").transform(vector[:, :2], element)
    torch.testing.assert_close(pseudo, vector[:, :2] * torch.tensor([-1.0, 1.0]))


def test_transform_is_computed_in_float64():
    element = Group.parse("SO(3)").element(0, {}, generator())
    vector = torch.randn(100, 3)
    moved = Spec.parse("vector").transform(vector, element)
    assert moved.dtype == torch.float32
    assert torch.equal(moved, (vector.double() @ element.rotation.T).float())


@pytest.mark.parametrize(
    ("spec", "nearest"), [("vectors/node", "'vector'"), ("Position", "'position'"), ("3y", "Known")]
)
def test_unknown_spec_names_the_nearest(spec, nearest):
    with pytest.raises(InputError, match=nearest):
        Spec.parse(spec)


def test_rows_that_disagree_are_refused():
    specs = {"a": Spec.parse("invariant/node"), "b": Spec.parse("vector/node")}
    with pytest.raises(ShapeError, match="5 node rows"):
        count_rows({"a": torch.zeros(5, 1), "b": torch.zeros(4, 3)}, specs)


def test_vector_of_the_wrong_dimension_is_refused():
    element = Group.parse("SO(3)").element(0, {}, generator())
    with pytest.raises(ShapeError, match=r"\[..., 3\]"):
        Spec.parse("vector").transform(torch.zeros(5, 2), element)


def test_merge_is_the_disjoint_union():
    specs = {
        k: Spec.parse(v) for k, v in {"x": "invariant/node", "e": "edge_index", "b": "batch", "c": "vector"}.items()
    }
    one = {"x": torch.ones(2, 1), "e": torch.tensor([[0], [1]]), "b": torch.tensor([0, 0]), "c": torch.ones(3)}
    two = {"x": torch.zeros(1, 1), "e": torch.tensor([[0], [0]]), "b": torch.tensor([0]), "c": torch.ones(3)}
    merged = merge([one, two], specs)
    assert merged["x"].flatten().tolist() == [1, 1, 0]
    assert merged["e"].tolist() == [[0, 2], [1, 2]]
    assert merged["b"].tolist() == [0, 0, 1]
    assert merged["c"].tolist() == [1, 1, 1]
    neighbors = merge([{"e": Neighborhood.from_edge_index(v["e"], len(v["x"]))} for v in (one, two)], {"e": specs["e"]})
    assert neighbors["e"].edge_index.tolist() == [[0, 2], [1, 2]]
    assert neighbors["e"].num_targets == 3
