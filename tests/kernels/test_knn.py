import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from geoattn.errors import ShapeError
from geoattn.kernels import _search, explain, knn, use
from geoattn.kernels.knn import cpu, knn_search

IMPLEMENTATIONS = ["reference", "scan", "tree"]


@pytest.fixture(params=IMPLEMENTATIONS)
def implementation(request, monkeypatch):
    """The reference, and the CPU implementation made to take either of its ways whatever the size."""
    if request.param == "reference":
        monkeypatch.setattr(_search, "CHUNK", 64)  # several chunks also for small clouds
        with use("reference"):
            yield request.param
    else:
        monkeypatch.setattr(cpu, "TREE_POINTS", 0 if request.param == "tree" else 2**40)
        yield request.param


def brute_force(x, y, k, ptr_x, ptr_y, exclude_self):
    """Independent formula: float64, each query sorted by (distance, index)."""
    idx, dist2 = np.full((len(y), k), -1), np.full((len(y), k), np.inf)
    for graph in range(len(ptr_x) - 1):
        for i in range(ptr_y[graph], ptr_y[graph + 1]):
            j = np.arange(ptr_x[graph], ptr_x[graph + 1])
            if exclude_self:
                j = j[j != i]
            d2 = np.sum((x[j] - y[i]) ** 2, axis=1)
            order = np.lexsort((j, d2))[:k]
            idx[i, : len(order)], dist2[i, : len(order)] = j[order], d2[order]
    return idx, dist2


def assert_equals_brute_force(x, y, k, ptr_x=None, ptr_y=None, loop=False):
    """For coordinates whose float32 distances are exact."""
    sizes = (ptr_x if ptr_x is not None else torch.tensor([0, len(x)])).tolist()
    sizes_y = sizes if y is None else (ptr_y if ptr_y is not None else torch.tensor([0, len(y)])).tolist()
    queries = x if y is None else y
    idx, dist2 = knn(x, y, k, ptr_x=ptr_x, ptr_y=ptr_y, loop=loop)
    expected = brute_force(
        x.double().numpy(), queries.double().numpy(), k, sizes, sizes_y, exclude_self=y is None and not loop
    )
    np.testing.assert_array_equal(idx.numpy(), expected[0])
    np.testing.assert_array_equal(dist2.numpy(), expected[1].astype(dist2.numpy().dtype))


def lattice_cloud(num, dim, seed=0, steps=3):
    """Random points of a small lattice of multiples of 2^-8: many ties and coincident points, exact in float32."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-steps, steps + 1, (num, dim), generator=generator) / 256


# the definition


@pytest.mark.parametrize("dim", [1, 2, 3, 16, 64])
@pytest.mark.parametrize("num", [0, 1, 4, 5, 100])  # k - 1 and k
def test_equals_brute_force_with_ties(implementation, num, dim):
    x = lattice_cloud(num, dim)
    assert_equals_brute_force(x, None, k=5)
    assert_equals_brute_force(x, None, k=5, loop=True)
    assert_equals_brute_force(x, lattice_cloud(30, dim, seed=1), k=5)
    assert_equals_brute_force(x, None, k=1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_brute_force_on_ragged_batches_with_empty_graphs(implementation, dtype):
    ptr_x, ptr_y = torch.tensor([0, 0, 40, 41, 41, 103, 103]), torch.tensor([0, 3, 33, 34, 37, 60, 60])
    x, y = lattice_cloud(103, 3).to(dtype), lattice_cloud(60, 3, seed=1).to(dtype)
    assert_equals_brute_force(x, None, 7, ptr_x)
    assert_equals_brute_force(x, y, 7, ptr_x, ptr_y)
    assert knn(x[:0], None, 3, ptr_x=torch.tensor([0]))[0].shape == (0, 3)  # no graph at all


@given(
    st.lists(st.tuples(*[st.integers(-4, 4)] * 2), min_size=1, max_size=40),
    st.integers(1, 12),
    st.booleans(),
    st.sampled_from(IMPLEMENTATIONS),
)
@settings(max_examples=60, deadline=None)
def test_equals_brute_force_on_any_lattice_points(points, k, loop, implementation):
    x = torch.tensor(points, dtype=torch.float32) / 256
    with pytest.MonkeyPatch.context() as patch, use("reference" if implementation == "reference" else "auto"):
        patch.setattr(cpu, "TREE_POINTS", 0 if implementation == "tree" else 2**40)
        assert_equals_brute_force(x, None, k, loop=loop)


@pytest.mark.parametrize(
    "x",
    [
        torch.zeros(600, 3),
        torch.stack([torch.arange(300.0).flip(0), torch.zeros(300)], 1) / 256,
        torch.arange(50.0).repeat(12)[:, None] / 256,
        torch.cartesian_prod(*[torch.arange(8.0)] * 3) / 256,
    ],
    ids=["coincident", "collinear", "every point twelve times", "full lattice"],
)
def test_equals_brute_force_on_degenerate_clouds(implementation, x):
    assert_equals_brute_force(x, None, k=5)
    assert_equals_brute_force(x, x, k=5)


def test_all_implementations_agree_to_the_bit_on_random_clouds(monkeypatch):
    """Rounded distances, where a fused multiply-add or another order of summation would show."""
    for dim in (2, 3, 5, 16):
        x, y = torch.rand(900, dim) * 7 - 3, torch.rand(300, dim)
        with use("reference"):
            expected = knn(x, y, 20), knn(x, k=20)
        for points in (0, 2**40):
            monkeypatch.setattr(cpu, "TREE_POINTS", points)
            for (idx, dist2), (expected_idx, expected_dist2) in zip(
                (knn(x, y, 20), knn(x, k=20)), expected, strict=True
            ):
                assert torch.equal(idx, expected_idx) and torch.equal(dist2, expected_dist2)
    difference = y[:, None] - x[expected[0][0]]
    by_rule = torch.zeros(300, 20)
    for d in range(dim):
        by_rule = by_rule + difference[..., d] * difference[..., d]
    assert torch.equal(expected[0][1], by_rule)


def test_agrees_with_scipy_where_no_distances_tie(implementation):
    x, y = torch.rand(500, 3), torch.rand(200, 3)
    idx, dist2 = knn(x, y, 8)
    distance, expected = cKDTree(x.double().numpy()).query(y.double().numpy(), 9)
    clear = np.diff(distance, axis=1).min(axis=1) > 1e-6
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(idx.numpy()[clear], expected[clear, :8])
    np.testing.assert_allclose(dist2.sqrt().numpy(), distance[:, :8], rtol=1e-5)


# precision


@pytest.mark.parametrize("shift", [1e3, 1e5])
def test_recall_far_from_the_origin(implementation, shift):
    x = torch.rand(400, 3) + shift
    idx, _ = knn(x, k=16)
    expected, _ = brute_force(x.double().numpy(), x.double().numpy(), 16, [0, 400], [0, 400], True)
    recall = np.mean([len(np.intersect1d(*rows)) / 16 for rows in zip(idx.numpy(), expected, strict=True)])
    assert recall >= 0.999


def test_autocast_changes_nothing(implementation):
    x = torch.rand(200, 3) + 100
    expected = knn(x, k=8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        idx, dist2 = knn(x, k=8)
    assert torch.equal(idx, expected[0]) and torch.equal(dist2, expected[1]) and dist2.dtype == torch.float32


def test_distances_that_overflow_or_underflow_keep_their_order(implementation):
    huge = torch.tensor([[-3e38], [3e38], [1e30], [0.0]])  # all distances but one overflow float32
    idx, dist2 = knn(huge, k=4)
    assert idx.tolist() == [[1, 2, 3, -1], [0, 2, 3, -1], [0, 1, 3, -1], [0, 1, 2, -1]]
    assert dist2.isinf().all()
    tiny = torch.tensor([[3e-30], [2e-30], [1e-30], [0.0]])  # all squares are 0 in float32
    assert knn(tiny, k=2)[0].tolist() == [[1, 2], [0, 2], [0, 1], [0, 1]]
    assert knn(huge.double() * 1e200, k=4)[0].tolist() == idx.tolist()


def test_dtypes(implementation):
    x, y = lattice_cloud(40, 2), lattice_cloud(20, 2, seed=1)
    expected = knn(x, y, 4)[0]
    for dtype in (torch.bfloat16, torch.float16, torch.float64):  # these hold the lattice exactly
        idx, dist2 = knn(x.to(dtype), y, 4)
        assert torch.equal(idx, expected)
        assert dist2.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


# behaviour


def test_permuting_the_input_permutes_the_answer(implementation):
    x, order = torch.rand(300, 3), torch.randperm(300)
    idx, _ = knn(x, k=6)
    permuted, _ = knn(x[order], k=6)
    assert torch.equal(order[permuted], idx[order])


def test_non_contiguous_and_differentiable_inputs(implementation):
    x = lattice_cloud(50, 6)[:, ::2].requires_grad_()
    idx, dist2 = knn(x, k=4)
    assert not dist2.requires_grad
    assert torch.equal(idx, knn(x.detach().clone(), k=4)[0])


def test_a_batch_equals_its_graphs_one_by_one():
    x = torch.rand(5000, 3)
    ptr = torch.tensor([0, 10, 4510, 4510, 5000])  # the first graph is scanned, the others are trees
    idx, dist2 = knn(x, k=9, ptr_x=ptr)
    for begin, end in [(0, 10), (10, 4510), (4510, 5000)]:
        alone = knn(x[begin:end], k=9)
        assert torch.equal(idx[begin:end], alone[0] + begin) and torch.equal(dist2[begin:end], alone[1])


def test_threads_change_nothing_and_may_call_at_once():
    x = torch.rand(6000, 3)
    before = torch.get_num_threads()
    expected, results = knn(x, k=16), [None] * 4

    def call(place):
        results[place] = knn(x, k=16)

    try:
        torch.set_num_threads(2)
        threads = [threading.Thread(target=call, args=(place,)) for place in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    for idx, dist2 in results:
        assert torch.equal(idx, expected[0]) and torch.equal(dist2, expected[1])


def test_many_coincident_points_stay_within_memory_and_time():
    idx, _ = knn(torch.zeros(8000, 3), k=3)
    assert idx[0].tolist() == [1, 2, 3] and idx[-1].tolist() == [0, 1, 2]


# the registered operation


def test_opcheck():
    x, y = torch.rand(12, 3), torch.rand(5, 3)
    ptr_x, ptr_y = torch.tensor([0, 5, 12]), torch.tensor([0, 0, 5])
    for args in [
        (x, x, None, None, 3, True),
        (x, y, ptr_x, ptr_y, 3, False),
        (x.double(), y.double(), None, None, 20, False),
    ]:
        torch.library.opcheck(knn_search, args)


def test_compiles_without_a_graph_break():
    def nearest_mean(x, y):
        idx, dist2 = knn(x * 2, y, k=3)
        return (x[idx] * dist2.unsqueeze(-1)).mean(1)

    compiled = torch.compile(nearest_mean, fullgraph=True, dynamic=True, backend="aot_eager")
    for num in (9, 14):
        x, y = torch.rand(num, 3, requires_grad=True), torch.rand(num + 1, 3)
        torch.testing.assert_close(compiled(x, y), nearest_mean(x, y))
        compiled(x, y).sum().backward()


def test_explain_says_what_ran():
    knn(torch.rand(5, 3, dtype=torch.float64), k=2)
    choice = next(c for c in explain() if c.operation == "knn")
    assert choice.ran == "numba" and "float32" in choice.refused["triton"]
    with pytest.raises(RuntimeError, match="triton"), use("triton"):
        knn(torch.rand(5, 3), k=2)


# errors


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_coordinates_that_are_not_finite_are_named(implementation, bad):
    x = torch.rand(10, 3)
    x[7, 1] = bad
    with pytest.raises(ShapeError, match=r"^x: got nan or inf in row 7.*finite"):
        knn(x, k=2)
    with pytest.raises(ShapeError, match=r"^y: got nan or inf in row 7"):
        knn(torch.rand(10, 3), x, 2)


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda x: knn(x[0]), "x"),
        (lambda x: knn(x[:, :0]), "x"),
        (lambda x: knn(x.long()), "x"),
        (lambda x: knn(x, x[:, :2]), "y"),
        (lambda x: knn(x, k=0), "k"),
        (lambda x: knn(x, k=2.0), "k"),
        (lambda x: knn(x, ptr_x=torch.tensor([0, 9])), "ptr_x"),
        (lambda x: knn(x, ptr_x=torch.tensor([1, 10])), "ptr_x"),
        (lambda x: knn(x, ptr_x=torch.tensor([0, 7, 5, 10])), "ptr_x"),
        (lambda x: knn(x, ptr_x=torch.tensor([], dtype=torch.long)), "ptr_x"),
        (lambda x: knn(x, ptr_x=torch.tensor([0.0, 10.0])), "ptr_x"),
        (lambda x: knn(x, ptr_x=torch.tensor([[0, 10]])), "ptr_x"),
        (lambda x: knn(x, ptr_y=torch.tensor([0, 10])), "ptr_y"),
        (lambda x: knn(x, x, ptr_x=torch.tensor([0, 10])), "ptr_y"),
        (lambda x: knn(x, x, ptr_y=torch.tensor([0, 10])), "ptr_x"),
        (lambda x: knn(x, x, ptr_x=torch.tensor([0, 10]), ptr_y=torch.tensor([0, 5, 10])), "ptr_y"),
    ],
)
def test_arguments_that_do_not_fit_are_named(call, argument):
    with pytest.raises(ShapeError, match=rf"^{argument}: "):
        call(torch.rand(10, 3))


@pytest.mark.gpu
def test_gpu_equals_cpu_to_the_bit():
    ptr = torch.tensor([0, 20, 20, 3000, 3001])
    for x in (torch.rand(3001, 3), lattice_cloud(3001, 3)):
        for k in (1, 16, 100, 129):  # the last one is for the reference
            expected = knn(x, k=k, ptr_x=ptr)
            found = knn(x.cuda(), k=k, ptr_x=ptr.cuda())
            assert torch.equal(found[0].cpu(), expected[0]) and torch.equal(found[1].cpu(), expected[1])


# Triton, on the CPU by its interpreter, which must be chosen before Triton is imported

INTERPRETED = """
import torch
from geoattn.kernels.knn import cuda, reference

generator = torch.Generator().manual_seed(0)
ptr_x, ptr_y = torch.tensor([0, 12, 12, 152, 153]), torch.tensor([0, 3, 5, 14, 17])
for dim, lattice in [(3, False), (2, True)]:
    x, y = torch.rand(153, dim, generator=generator), torch.rand(17, dim, generator=generator)
    if lattice:
        x, y = (x * 5).round() / 256, (y * 5).round() / 256
    z, ptr_z = x[:17], torch.tensor([0, 0, 17])
    for args in [(x, y, ptr_x, ptr_y, 5, False), (x, y, ptr_x, ptr_y, 1, False), (z, z, ptr_z, ptr_z, 20, True)]:
        found, expected = cuda.knn_search(*args), reference.knn_search(*args)
        assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1]), (dim, lattice)
empty = torch.zeros(0, 3), torch.tensor([0, 0])
assert cuda.knn_search(empty[0], empty[0], empty[1], empty[1], 2, True)[0].shape == (0, 2)
"""

COMPILED = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from geoattn.kernels._search_triton import BLOCK_M, BLOCK_N, LAUNCH
from geoattn.kernels.knn.cuda import knn_fwd_kernel as kernel

constants = {"EXCLUDE_SELF": True, "K": 16, "BLOCK_M": BLOCK_M, "BLOCK_N": BLOCK_N}
types = {"x": "*fp32", "y": "*fp32", "first": "*i64", "last": "*i64", "keys": "*i64"}
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
