"""The symmetry check passes what is equivariant, and fails, by name, what is not."""

import subprocess
import sys

import pytest
import torch

from geoattn.errors import InputError, ShapeError
from geoattn.testing import Spec, assert_equivariant, equivariance_error, relative_error

POS = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
EDGES = torch.tensor([[0, 1, 2, 3, 4, 5, 0], [1, 2, 3, 4, 5, 0, 3]])
IN = {"pos": "position/node", "edge_index": "edge_index"}
OUT = {"energy": "invariant", "force": "vector/node", "centre": "position"}


def spring(pos, edge_index):
    """Energy, forces and centre of a spring network: invariant, vectors, a position."""
    vector = pos[edge_index[0]] - pos[edge_index[1]]
    force = torch.zeros_like(pos).index_add(0, edge_index[1], vector)
    return vector.square().sum(), force, pos.mean(0)


def inputs(pos=POS):
    return {"pos": pos, "edge_index": EDGES}


@pytest.mark.parametrize("group", ["O(3)", "SO(3)", "E(3)", "SE(3)", "T(3)", "permutation"])
def test_equivariant_function_passes(group):
    report = equivariance_error(spring, inputs(), in_specs=IN, out_specs=OUT, group=group)
    assert float(report) < 1e-14
    assert_equivariant(spring, inputs(), in_specs=IN, out_specs=OUT, group=group)


@pytest.mark.parametrize("dim", [1, 2, 4, 7])
def test_any_dimension(dim):
    pos = torch.randn(6, dim, dtype=torch.float64)
    assert_equivariant(spring, inputs(pos), in_specs=IN, out_specs=OUT, group=f"E({dim})")


def test_float32_passes_by_its_own_tolerance_and_not_by_that_of_float64():
    report = equivariance_error(spring, inputs(POS.float()), in_specs=IN, out_specs=OUT)
    assert report.tolerances == {"energy": 1e-4, "force": 1e-4, "centre": 1e-4}
    assert 1e-10 < float(report) < 1e-5
    with pytest.raises(AssertionError, match="allowed 1e-10"):
        assert_equivariant(spring, inputs(POS.float()), in_specs=IN, out_specs=OUT, tolerance=1e-10)


BROKEN = {
    # fault: (function, group that must notice, group that must not, output)
    "component": (lambda pos, edge_index: pos[:, 0].abs().sum(), "SO(3)", "permutation", "y"),
    "origin": (lambda pos, edge_index: pos.square().sum(), "T(3)", "O(3)", "y"),
    "handed": (lambda pos, edge_index: torch.linalg.det(pos[:3] - pos[3]), "E(3)", "SE(3)", "y"),
    "order of nodes": (lambda pos, edge_index: (pos[0] - pos[1]).norm(), "permutation", "E(3)", "y"),
    "order of edges": (lambda pos, edge_index: (pos[edge_index[0, 0]] - pos[2]).norm(), "permutation", "E(3)", "y"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_broken_functions_fail(fault):
    fn, notices, blind, output = BROKEN[fault]
    specs = {"in_specs": IN, "out_specs": {output: "invariant"}}
    with pytest.raises(AssertionError, match=f"output '{output}' has relative error"):
        assert_equivariant(fn, inputs(), group=notices, **specs)
    assert_equivariant(fn, inputs(), group=blind, **specs)


def test_transposed_rotation_is_noticed():
    """A vector that turns the wrong way round has the right length and the wrong direction."""
    fn = lambda pos, edge_index: torch.linalg.qr((pos - pos.mean(0)).T @ (pos - pos.mean(0)))[0][0]
    with pytest.raises(AssertionError):
        assert_equivariant(fn, inputs(), in_specs=IN, out_specs={"y": "vector"}, group="SO(3)")


def test_the_worst_output_is_named():
    def fn(pos, edge_index):
        energy, force, centre = spring(pos, edge_index)
        return energy, force + torch.tensor([1e-3, 0.0, 0.0]), centre + 1e-6 * centre.square()

    report = equivariance_error(fn, inputs(), in_specs=IN, out_specs=OUT)
    assert report.worst == "force"
    assert report.errors["force"] > report.errors["centre"] > 1e-10 > report.errors["energy"]
    with pytest.raises(AssertionError, match=r"output 'force'.*(rotation|reflection) R = .*t = .*centre \d"):
        assert_equivariant(fn, inputs(), in_specs=IN, out_specs=OUT)


def test_an_output_that_is_none_of_ours_is_left_out():
    fn = lambda pos, edge_index: (pos[0, 0], *spring(pos, edge_index))
    assert_equivariant(fn, inputs(), in_specs=IN, out_specs={"junk": None, **OUT})


def test_outputs_by_key():
    def fn(pos, edge_index):
        energy, force, centre = spring(pos, edge_index)
        return {"junk": 1, "centre": centre, "force": force, "energy": energy}

    assert_equivariant(fn, inputs(), in_specs=IN, out_specs=OUT)


def test_nan_is_an_error():
    fn = lambda pos, edge_index: pos.sum() * float("nan")
    with pytest.raises(AssertionError, match="inf"):
        assert_equivariant(fn, inputs(), in_specs=IN, out_specs={"y": "invariant"})


def test_randomness_is_pointed_out():
    dropout = torch.nn.Dropout(0.5)
    fn = lambda pos, edge_index: dropout(torch.cdist(pos, pos))
    with pytest.raises(AssertionError, match=r"\.eval\(\)"):
        assert_equivariant(fn, inputs(), in_specs=IN, out_specs={"y": "invariant"})


def test_forces_by_autograd():
    def fn(pos, edge_index):
        pos = pos.clone().requires_grad_()
        energy = spring(pos, edge_index)[0].sqrt()
        return torch.autograd.grad(energy, pos)[0]

    assert_equivariant(fn, inputs(), in_specs=IN, out_specs={"force": "vector/node"})


def test_irreps_of_spherical_harmonics():
    from e3nn import o3

    fn = lambda pos: o3.spherical_harmonics([0, 1, 2, 3], pos, normalize=True)
    specs = {"in_specs": {"pos": "vector/node"}, "out_specs": {"y": "0e + 1o + 2e + 3o/node"}}
    assert_equivariant(fn, {"pos": POS}, group="O(3)", **specs)
    wrong = {"in_specs": {"pos": "vector/node"}, "out_specs": {"y": "0e + 1e + 2e + 3o/node"}}
    with pytest.raises(AssertionError, match="reflection"):
        assert_equivariant(fn, {"pos": POS}, group="O(3)", **wrong)
    assert_equivariant(fn, {"pos": POS}, group="SO(3)", **wrong)


def test_seed_repeats_and_torch_generator_is_untouched():
    fn = BROKEN["component"][0]
    state = torch.get_rng_state()
    specs = {"in_specs": IN, "out_specs": {"y": "invariant"}}
    errors = [float(equivariance_error(fn, inputs(), seed=seed, **specs)) for seed in (3, 3, 4)]
    assert errors[0] == errors[1] != errors[2]
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"in_specs": {"pos": "position/node"}}, InputError, "'edge_index' is a tensor and has no spec"),
        ({"in_specs": {**IN, "poss": "vector"}}, InputError, "poss"),
        ({"out_specs": {"energy": "invariant"}}, InputError, "3 outputs"),
        ({"out_specs": {**OUT, "force": "vector/atom"}}, InputError, "'atom'"),
        ({"out_specs": {**OUT, "energy": "vector"}}, ShapeError, r"\[..., 3\]"),
        ({"out_specs": dict.fromkeys(OUT)}, InputError, "nothing to compare"),
        ({"group": "E(2)"}, ShapeError, r"\[..., 2\]"),
        ({"group": "G2"}, InputError, "G2"),
    ],
)
def test_wrong_declarations_are_refused(change, error, match):
    arguments = {"in_specs": IN, "out_specs": OUT, **change}
    with pytest.raises(error, match=match):
        equivariance_error(spring, inputs(), **arguments)


def test_relative_error():
    a = torch.tensor([1.0, 2.0, 4.0])
    assert relative_error(a, a + torch.tensor([0.0, 0.0, 1.0])) == pytest.approx(0.2)
    assert relative_error(torch.zeros(3), torch.zeros(3)) == 0
    assert relative_error(torch.zeros(3), torch.tensor([0.0, 1e-30, 0.0])) == 1
    assert relative_error(torch.zeros(0), torch.zeros(0)) == 0
    assert relative_error(a, torch.tensor([1.0, 2.0, float("inf")])) == float("inf")
    with pytest.raises(ShapeError):
        relative_error(a, a[:2])


def test_spec_by_function():
    """A rank-2 tensor, which no name covers, through a function."""
    rank2 = Spec(lambda value, g: g.rotation @ value @ g.rotation.T)
    fn = lambda pos, edge_index: (pos - pos.mean(0)).T @ (pos - pos.mean(0))
    assert_equivariant(fn, inputs(), in_specs=IN, out_specs={"inertia": rank2})
    with pytest.raises(AssertionError):
        assert_equivariant(fn, inputs(), in_specs=IN, out_specs={"inertia": "invariant"})


def test_needs_no_pytest():
    code = "import sys, geoattn.testing; assert not {'pytest', 'e3nn', 'lightning'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
