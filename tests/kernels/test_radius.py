import math
import os
import subprocess
import sys
import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

import geoattn.kernels.radius  # noqa: F401 - the package, which the function of the same name hides
from geoattn.errors import ShapeError
from geoattn.geometry.edges import edge_vectors
from geoattn.kernels import _search, explain, radius, use
from geoattn.kernels.radius import cpu, radius_search

IMPLEMENTATIONS = ["reference", "scan", "tree"]
package = sys.modules["geoattn.kernels.radius"]


@pytest.fixture(params=IMPLEMENTATIONS)
def implementation(request, monkeypatch):
    """The reference, and the CPU implementation made to take either of its ways whatever the size."""
    if request.param == "reference":
        monkeypatch.setattr(_search, "CHUNK", 64)  # several chunks also for small clouds
        with use("reference"):
            yield request.param
    else:
        force(monkeypatch, request.param)
        yield request.param


def force(monkeypatch, way):

    monkeypatch.setattr(cpu, "TREE_POINTS", 0 if way == "tree" else 2**40)
    monkeypatch.setattr(cpu, "SPARSE", math.inf)


def brute_force(x, y, r, ptr_x, ptr_y, exclude_self, max_neighbors=None):
    """Independent formula: float64, each target's sources sorted by (distance, index)."""
    pairs = []
    for graph in range(len(ptr_x) - 1):
        for i in range(ptr_y[graph], ptr_y[graph + 1]):
            j = np.arange(ptr_x[graph], ptr_x[graph + 1])
            if exclude_self:
                j = j[j != i]
            d2 = np.sum((x[j] - y[i]) ** 2, axis=1)
            j, d2 = j[d2 <= r * r], d2[d2 <= r * r]
            pairs += [(source, i) for source in j[np.lexsort((j, d2))[:max_neighbors]].tolist()]
    return pairs


def assert_equals_brute_force(x, y, r, ptr_x=None, ptr_y=None, loop=False, max_neighbors=None):
    """For coordinates and radii whose float32 squares are exact."""
    sizes = (ptr_x if ptr_x is not None else torch.tensor([0, len(x)])).tolist()
    sizes_y = sizes if y is None else (ptr_y if ptr_y is not None else torch.tensor([0, len(y)])).tolist()
    queries = x if y is None else y
    nbr = radius(x, y, r, ptr_x=ptr_x, ptr_y=ptr_y, loop=loop, max_neighbors=max_neighbors)
    assert (nbr.num_targets, nbr.num_sources) == (len(queries), len(x))
    exclude_self = y is None and not loop
    expected = brute_force(x.double().numpy(), queries.double().numpy(), r, sizes, sizes_y, exclude_self, max_neighbors)
    assert list(zip(nbr.source.tolist(), nbr.target.tolist(), strict=True)) == expected
    assert nbr.edge_index.T.tolist() == [list(pair) for pair in expected]
    assert nbr.row_ptr.tolist() == np.searchsorted([i for _, i in expected], np.arange(len(queries) + 1)).tolist()


def lattice_cloud(num, dim, seed=0, steps=3):
    """Random points of a small lattice of multiples of 2^-8: many ties and coincident points, exact in float32."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-steps, steps + 1, (num, dim), generator=generator) / 256


# the definition


@pytest.mark.parametrize("dim", [1, 2, 3, 16, 64])
@pytest.mark.parametrize("num", [0, 1, 63, 100])
def test_equals_brute_force_with_ties(implementation, num, dim):
    x = lattice_cloud(num, dim)
    r = round(2 * math.sqrt(dim)) / 256
    assert_equals_brute_force(x, None, r)  # inclusive: many distances equal r exactly
    assert_equals_brute_force(x, None, r, loop=True)
    assert_equals_brute_force(x, lattice_cloud(30, dim, seed=1), r)
    assert_equals_brute_force(x, None, 0.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_brute_force_on_ragged_batches_with_empty_graphs(implementation, dtype):
    ptr_x, ptr_y = torch.tensor([0, 0, 40, 41, 41, 103, 103]), torch.tensor([0, 3, 33, 34, 37, 60, 60])
    x, y = lattice_cloud(103, 3).to(dtype), lattice_cloud(60, 3, seed=1).to(dtype)
    for r in (3 / 256, math.inf):
        assert_equals_brute_force(x, None, r, ptr_x)
        assert_equals_brute_force(x, y, r, ptr_x, ptr_y)
    assert radius(x[:0], r=1.0, ptr_x=torch.tensor([0])).num_edges == 0  # no graph at all


@given(
    st.lists(st.tuples(*[st.integers(-4, 4)] * 2), min_size=1, max_size=40),
    st.integers(0, 8),
    st.booleans(),
    st.sampled_from(IMPLEMENTATIONS),
)
@settings(max_examples=60, deadline=None)
def test_equals_brute_force_on_any_lattice_points(points, steps, loop, implementation):
    x = torch.tensor(points, dtype=torch.float32) / 256
    with pytest.MonkeyPatch.context() as patch, use("reference" if implementation == "reference" else "auto"):
        force(patch, implementation)
        assert_equals_brute_force(x, None, steps / 256, loop=loop)


@pytest.mark.parametrize(
    ("x", "r"),
    [
        (torch.zeros(150, 3), 0.0),
        (torch.stack([torch.arange(300.0).flip(0), torch.zeros(300)], 1) / 256, 70 / 256),  # also rows above 64
        (torch.arange(50.0).repeat(12)[:, None] / 256, 3 / 256),
        (torch.cartesian_prod(*[torch.arange(7.0)] * 3) / 256, 2 / 256),
    ],
    ids=["coincident", "collinear", "every point twelve times", "full lattice"],
)
def test_equals_brute_force_on_degenerate_clouds(implementation, x, r):
    assert_equals_brute_force(x, None, r)
    assert_equals_brute_force(x, x, r)


def test_all_implementations_agree_to_the_bit_on_random_clouds(monkeypatch):
    """Radii that are the rounded distance of some pair, where a fused multiply-add would lose that pair."""
    for dim in (2, 3, 5):
        x, y = torch.rand(700, dim) * 3, torch.rand(200, dim) * 3
        for place in range(5):
            r = (y[place] - x[place]).square().sum().sqrt().item() / 2
            with use("reference"):
                expected = radius(x, y, r)
            for way in ("scan", "tree"):
                force(monkeypatch, way)
                found = radius(x, y, r)
                assert torch.equal(found.row_ptr, expected.row_ptr) and torch.equal(found.source, expected.source)


def test_a_pair_at_exactly_the_radius_is_within(implementation):
    """0.1 is no float32 number; it is rounded as the coordinates were, and so is its square."""
    for length in (0.1, 0.3, 1.7, 5.1):
        x = torch.tensor([[0.0, 0.0, 0.0], [0.0, length, 0.0]])
        assert radius(x, r=length).num_edges == 2
        assert radius(x.double(), r=torch.tensor(length).item() * (1 - 1e-12)).num_edges == 0


def test_agrees_with_scipy_where_no_distance_is_near_the_radius(implementation):
    x, y = torch.rand(400, 3), torch.rand(200, 3)
    r = 0.2
    distance = torch.cdist(y.double(), x.double())
    assert (distance - r).abs().min() > 1e-7
    expected = cKDTree(x.double().numpy()).query_ball_point(y.double().numpy(), r)
    nbr = radius(x, y, r)
    found = [sorted(nbr.source[a:b].tolist()) for a, b in pairwise(nbr.row_ptr.tolist())]
    assert found == [sorted(row) for row in expected]


# precision


@pytest.mark.parametrize("shift", [1e3, 1e5])
def test_recall_far_from_the_origin(implementation, shift):
    x = torch.rand(300, 3) + shift
    expected = set(brute_force(x.double().numpy(), x.double().numpy(), 0.3, [0, 300], [0, 300], True))
    nbr = radius(x, r=0.3)
    found = set(zip(nbr.source.tolist(), nbr.target.tolist(), strict=True))
    assert len(found & expected) >= 0.999 * len(expected) and len(found) <= 1.001 * len(expected)


def test_autocast_changes_nothing(implementation):
    x = torch.rand(200, 3) + 100
    expected = radius(x, r=0.3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = radius(x, r=0.3)
    assert torch.equal(found.source, expected.source) and found.num_edges > 0


def test_overflow_and_underflow(implementation):
    huge = torch.tensor([[-3e38], [3e38], [1e30], [0.0]])
    assert radius(huge, r=math.inf).num_edges == 12
    assert radius(huge, r=1e18).num_edges == 0
    tiny = torch.tensor([[3e-30], [0.0]])  # its square is 0 in float32, and so is that of the radius
    assert radius(tiny, r=1e-30).num_edges == 2


def test_dtypes(implementation):
    x, y = lattice_cloud(40, 2), lattice_cloud(20, 2, seed=1)
    expected = radius(x, y, 2 / 256).source
    for dtype in (torch.bfloat16, torch.float16, torch.float64):  # these hold the lattice exactly
        assert torch.equal(radius(x.to(dtype), y, 2 / 256).source, expected)


# max_neighbors


@pytest.fixture
def not_warned(monkeypatch):
    monkeypatch.setattr(package, "_warned", False)


def test_truncation_keeps_the_nearest_and_warns_once_with_the_numbers(implementation, not_warned):
    x = lattice_cloud(120, 3)
    with pytest.warns(UserWarning, match=r"120 of 120 points have more than max_neighbors=5 ") as caught:
        assert_equals_brute_force(x, None, 1.0, max_neighbors=5)
    assert [warning.filename for warning in caught] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_equals_brute_force(x, lattice_cloud(40, 3, seed=1), 1.0, max_neighbors=5)


def test_no_warning_when_nothing_is_cut(implementation, not_warned):
    x, ptr = lattice_cloud(60, 2, steps=20), torch.tensor([0, 6, 6, 60])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_equals_brute_force(x, None, 1.0, ptr, max_neighbors=53)  # as many as there are
        assert_equals_brute_force(x, None, 2 / 256, ptr, max_neighbors=1000)
        assert radius(x[:0], r=1.0, max_neighbors=3).num_edges == 0
    assert not package._warned


@pytest.mark.filterwarnings("ignore:radius. .* max_neighbors")
def test_the_kept_neighbours_point_in_no_direction():
    """Keeping the first ones by index or by tree order would bias them to one side."""
    x = torch.randn(3000, 3)
    x = x[x.norm(dim=1).argsort()]
    vectors = edge_vectors(x, nbr := radius(x, r=10.0, max_neighbors=5))
    centre = nbr.target < 1000
    directions = torch.nn.functional.normalize(vectors[centre], dim=1)
    standard_error = directions.std(0) / math.sqrt(len(directions))
    assert (directions.mean(0).abs() < 3 * standard_error).all()


# behaviour


def test_permuting_the_input_permutes_the_answer(implementation):
    x, order = torch.rand(200, 3), torch.randperm(200)
    nbr, permuted = radius(x, r=0.3), radius(x[order], r=0.3)
    edges = {(j, i) for j, i in nbr.edge_index.T.tolist()}
    assert {(j, i) for j, i in order[permuted.edge_index].T.tolist()} == edges


def test_non_contiguous_and_differentiable_inputs(implementation):
    x = lattice_cloud(50, 6)[:, ::2].requires_grad_()
    assert torch.equal(radius(x, r=3 / 256).source, radius(x.detach().clone(), r=3 / 256).source)


def test_a_batch_equals_its_graphs_one_by_one():
    x = torch.rand(4000, 3)
    ptr = torch.tensor([0, 10, 2010, 2010, 3800, 4000])
    x[2010:3800] *= 0.25  # one graph for the tree, one that is too dense for it, and small ones
    nbr = radius(x, r=0.1, ptr_x=ptr)
    expected = [radius(x[a:b], r=0.1).edge_index + a for a, b in pairwise(ptr.tolist())]
    assert torch.equal(nbr.edge_index, torch.cat(expected, dim=1))


def test_threads_change_nothing():
    x = torch.rand(3000, 3)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(radius(x, r=0.5))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0].source, found[1].source) and found[0].num_edges > 100_000


# the registered operation


def test_opcheck():
    x, y = torch.rand(12, 3), torch.rand(5, 3)
    ptr_x, ptr_y = torch.tensor([0, 5, 12]), torch.tensor([0, 0, 5])
    for args in [(x, x, None, None, 0.5, True), (x.double(), y.double(), ptr_x, ptr_y, 0.5, False)]:
        torch.library.opcheck(radius_search, args)


def energy(x, max_neighbors=None):
    nbr = radius(x * 2, r=1.0, max_neighbors=max_neighbors)
    return (edge_vectors(x, nbr).square().sum(1) * (1 + nbr.target)).sum()


@pytest.mark.filterwarnings("ignore:radius. .* max_neighbors")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # of torch's own, at any break of a graph
@pytest.mark.parametrize("max_neighbors", [None, 2])
def test_compiles_with_a_graph_break(max_neighbors):
    compiled = torch.compile(energy, backend="aot_eager")
    for num in (9, 14):
        x = torch.rand(num, 3, requires_grad=True)
        torch.testing.assert_close(compiled(x, max_neighbors), energy(x, max_neighbors))
        compiled(x, max_neighbors).backward()


def test_compiles_without_a_graph_break_where_dynamic_sizes_are_captured():
    torch._dynamo.reset()
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        compiled = torch.compile(
            lambda x: radius(x * 2, r=1.0).source.sum(), fullgraph=True, dynamic=True, backend="aot_eager"
        )
        for num in (9, 14):
            x = torch.rand(num, 3)
            assert compiled(x) == radius(x * 2, r=1.0).source.sum()


def test_explain_says_what_ran():
    radius(torch.rand(5, 3, dtype=torch.float64), r=1.0)
    choice = next(c for c in explain() if c.operation == "radius")
    assert choice.ran == "numba" and "float32" in choice.refused["triton"]
    with pytest.raises(RuntimeError, match="triton"), use("triton"):
        radius(torch.rand(5, 3), r=1.0)


# errors


def test_coordinates_that_are_not_finite_are_named(implementation):
    x = torch.rand(10, 3)
    x[7, 1] = math.nan
    for max_neighbors in (None, 3):
        with pytest.raises(ShapeError, match=r"^x: got nan or inf in row 7.*finite"):
            radius(x, r=1.0, max_neighbors=max_neighbors)
    with pytest.raises(ShapeError, match=r"^y: got nan or inf in row 7"):
        radius(torch.rand(10, 3), x, 1.0)


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda x: radius(x), "r"),
        (lambda x: radius(x, r=-1.0), "r"),
        (lambda x: radius(x, r=math.nan), "r"),
        (lambda x: radius(x, r=1.0, max_neighbors=0), "max_neighbors"),
        (lambda x: radius(x[0], r=1.0), "x"),
        (lambda x: radius(x.long(), r=1.0), "x"),
        (lambda x: radius(x, x[:, :2], 1.0), "y"),
        (lambda x: radius(x, r=1.0, ptr_x=torch.tensor([0, 9])), "ptr_x"),
        (lambda x: radius(x, x, 1.0, ptr_x=torch.tensor([0, 10])), "ptr_y"),
    ],
)
def test_arguments_that_do_not_fit_are_named(call, argument):
    with pytest.raises(ShapeError, match=rf"^{argument}: "):
        call(torch.rand(10, 3))


@pytest.mark.gpu
def test_gpu_equals_cpu_to_the_bit():
    ptr = torch.tensor([0, 20, 20, 3000, 3001])
    for x, r in ((torch.rand(3001, 3), 0.2), (lattice_cloud(3001, 3), 2 / 256)):
        for max_neighbors in (None, 10_000):
            expected = radius(x, r=r, ptr_x=ptr, max_neighbors=max_neighbors)
            found = radius(x.cuda(), r=r, ptr_x=ptr.cuda(), max_neighbors=max_neighbors).to("cpu")
            assert torch.equal(found.edge_index, expected.edge_index)


# Triton, on the CPU by its interpreter, which must be chosen before Triton is imported

INTERPRETED = """
import math
import torch
from geoattn.kernels.radius import cuda, reference

generator = torch.Generator().manual_seed(0)
ptr_x, ptr_y = torch.tensor([0, 12, 12, 152, 153]), torch.tensor([0, 3, 5, 14, 17])
for dim, lattice in [(3, False), (2, True)]:
    x, y = torch.rand(153, dim, generator=generator), torch.rand(17, dim, generator=generator)
    if lattice:
        x, y = (x * 5).round() / 256, (y * 5).round() / 256
    z, ptr_z = x[:17], torch.tensor([0, 0, 17])
    for r in (0.0, 2 / 256, 0.3, math.inf):
        for args in [(x, y, ptr_x, ptr_y, r, False), (z, z, ptr_z, ptr_z, r, True)]:
            found, expected = cuda.radius_search(*args), reference.radius_search(*args)
            assert all(map(torch.equal, found, expected)), (dim, lattice, r)
empty = torch.zeros(0, 3), torch.tensor([0, 0])
assert cuda.radius_search(empty[0], empty[0], empty[1], empty[1], 2.0, True)[0].tolist() == [0]
"""

COMPILED = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from geoattn.kernels._search_triton import BLOCK_M, BLOCK_N, LAUNCH
from geoattn.kernels.radius.cuda import radius_fwd_kernel as kernel

types = {name: "*fp32" for name in ("x", "y", "limit", "near")}
types |= {name: "*i64" for name in ("first", "last", "row_ptr", "counts", "source")}
for count in (True, False):
    constants = {"EXCLUDE_SELF": True, "COUNT": count, "BLOCK_M": BLOCK_M, "BLOCK_N": BLOCK_N}
    signature = {name: "constexpr" if name in constants else types.get(name, "i32") for name in kernel.arg_names}
    places = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    source = ASTSource(kernel, signature=signature, constexprs=places)
    ptx = triton.compile(source, target=GPUTarget("cuda", 80, 32), options=LAUNCH).asm["ptx"]
    assert "mul.rn.f32" in ptx and "fma" not in ptx
"""


@pytest.mark.parametrize("script", [INTERPRETED, COMPILED], ids=["interpreted", "compiled"])
def test_triton(script):
    """The kernel gives the reference's answer, and compiles for a GPU without fused multiply-add."""
    pytest.importorskip("triton")
    environment = {**os.environ, "TRITON_INTERPRET": "1" if script is INTERPRETED else "0"}
    run = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=240)
    assert run.returncode == 0, run.stderr
