import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geoattn.errors import ShapeError
from geoattn.kernels import explain, farthest_points, use
from geoattn.kernels.farthest_points import farthest_search

IMPLEMENTATIONS = ["reference", "auto"]


@pytest.fixture(params=IMPLEMENTATIONS)
def implementation(request):
    with use(request.param):
        yield request.param


def by_hand(x, num, start=0):
    """Independent formula: at every step all distances anew; the first largest of what is not taken."""
    taken = [start]
    while len(taken) < min(num, len(x)):
        nearest = np.min(np.sum((x[taken, None] - x) ** 2, axis=2), axis=0)
        nearest[taken] = -1
        taken.append(int(np.argmax(nearest)))
    return taken if len(x) else []


def lattice_cloud(num, dim, seed=0, steps=3):
    """Random points of a small lattice of multiples of 2^-8: many ties and coincident points, exact in float32."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-steps, steps + 1, (num, dim), generator=generator) / 256


def cover(x, idx):
    """``[S]``: after each sample, the largest distance of a point to its nearest sample."""
    return torch.cdist(x.double(), x[idx].double()).cummin(1).values.amax(0)


# the definition


@pytest.mark.parametrize("dim", [1, 2, 3, 16])
@pytest.mark.parametrize("num", [0, 1, 2, 12, 70])
def test_equals_a_loop_with_ties(implementation, num, dim):
    x = lattice_cloud(num, dim)
    for samples in (1, 12, 100):
        idx, ptr = farthest_points(x, samples)
        assert idx.tolist() == by_hand(x.double().numpy(), samples)
        assert ptr.tolist() == [0, min(num, samples)]


@given(st.lists(st.tuples(*[st.integers(-3, 3)] * 2), min_size=1, max_size=30), st.integers(1, 30), st.data())
@settings(max_examples=60)
def test_equals_a_loop_on_any_lattice_points(points, num, data):
    start = data.draw(st.integers(0, len(points) - 1))
    x = torch.tensor(points, dtype=torch.float32) / 256
    for implementation in IMPLEMENTATIONS:
        with use(implementation):
            assert farthest_points(x, num, start=start)[0].tolist() == by_hand(x.double().numpy(), num, start)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dim", [1, 2, 3, 16])
def test_compiled_equals_reference_to_the_bit(dim, dtype):
    """Clouds of several leaves, with rounded distances and with ties."""
    even, cluster = torch.rand(1500, dim) * 7 - 3, torch.randn(500, dim) / 100 + 2
    for x in (torch.cat([even, cluster]), lattice_cloud(2000, dim), torch.rand(2000, dim).bfloat16()):
        x = x.to(dtype) if x.dtype == torch.float32 else x
        found = farthest_points(x, 300, start=7)
        with use("reference"):
            expected = farthest_points(x, 300, start=7)
        assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])


@pytest.mark.parametrize("start", [0, "centroid", torch.tensor([9, 2, 4, 0, 61, -1])])
def test_a_batch_equals_its_graphs_one_by_one(implementation, start):
    """Ragged, with empty graphs, the last of which has a start outside."""
    ptr = torch.tensor([0, 10, 40, 400, 401, 500, 500])
    x = torch.cat([torch.rand(400, 3), lattice_cloud(100, 3)])
    idx, ptr_out = farthest_points(x, 70, ptr=ptr, start=start)
    assert ptr_out.tolist() == [0, 10, 40, 110, 111, 181, 181]
    for graph in range(5):
        begin, end = ptr[graph : graph + 2].tolist()
        first = int(start[graph]) if isinstance(start, torch.Tensor) else start
        alone, _ = farthest_points(x[begin:end], 70, start=first)
        assert torch.equal(idx[ptr_out[graph] : ptr_out[graph + 1]], alone + begin)


def test_coincident_points_are_taken_once_each_and_in_order(implementation):
    assert farthest_points(torch.zeros(200, 3), 150, start=5)[0].tolist() == [5, *range(5), *range(6, 150)]
    twice = torch.tensor([[0.0], [1.0]]).repeat(100, 1)
    assert farthest_points(twice, 200)[0].tolist() == [0, 1, *range(2, 200)]


def test_a_cloud_300_units_wide(implementation):
    """Squared distances above 5e4, where another implementation begins."""
    x = torch.tensor([[0.0], [299.0], [300.0], [150.0]])
    assert farthest_points(x, 4)[0].tolist() == [0, 2, 3, 1]
    x = torch.tensor([[-3e38], [3e38], [0.0], [1.0]])  # all but one distance overflow float32
    assert farthest_points(x, 4)[0].tolist() == [0, 1, 2, 3]


def test_the_start_at_the_centroid_is_the_farthest_from_it(implementation):
    x = torch.rand(301, 3) + torch.tensor([100.0, 0, 0])
    centroid = x.double().mean(0)
    assert farthest_points(x, 1, start="centroid")[0].item() == (x - centroid).norm(dim=1).argmax()
    square = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1], [0, 0]])[[4, 2, 0, 1, 3]]
    assert farthest_points(square, 2, start="centroid")[0].tolist() == [1, 2]


# properties


def test_samples_cover_the_cloud_ever_better_and_keep_apart(implementation):
    x = torch.rand(2000, 3)
    idx, _ = farthest_points(x, 200)
    radius = cover(x, idx)
    assert (radius.diff() <= 0).all()
    between = torch.cdist(x[idx].double(), x[idx].double()) + torch.eye(200) * 9
    assert between.min() >= radius[-1] * (1 - 1e-6)  # no two samples are nearer than the radius that they cover


def test_permutation_rotation_and_translation_without_ties(implementation):
    x = torch.rand(1000, 3, dtype=torch.float64)
    idx, _ = farthest_points(x, 100, start="centroid")
    order = torch.randperm(1000)
    assert torch.equal(order[farthest_points(x[order], 100, start="centroid")[0]], idx)
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))
    assert torch.equal(farthest_points(x @ rotation + 5, 100, start="centroid")[0], idx)


def test_threads_autocast_and_repetition_change_nothing():
    x, ptr = torch.rand(8000, 3), torch.tensor([0, 3000, 3100, 8000])
    expected, before = farthest_points(x, 500, ptr=ptr), torch.get_num_threads()
    try:
        for threads in (1, 2, 2):
            torch.set_num_threads(threads)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                found = farthest_points(x.requires_grad_(), 500, ptr=ptr)
            assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])
    finally:
        torch.set_num_threads(before)


# the registered operation


def test_opcheck():
    x = torch.rand(12, 3)
    for args in [(x, None, 5, torch.tensor([3])), (x.double(), None, 20, None)]:
        torch.library.opcheck(farthest_search, args)
    ptr = torch.tensor([0, 5, 5, 12])
    torch.library.opcheck(farthest_search, (x, ptr, 4, None), test_utils=("test_schema", "test_faketensor"))


def test_compiles_without_a_graph_break():
    def spread(x):
        idx, _ = farthest_points(x * 2, 6)
        return x[idx].std(0)

    compiled = torch.compile(spread, fullgraph=True, dynamic=True, backend="aot_eager")
    for num in (9, 14):
        x = torch.rand(num, 3, requires_grad=True)
        torch.testing.assert_close(compiled(x), spread(x))
        compiled(x).sum().backward()


def test_explain_says_what_ran():
    farthest_points(torch.rand(5, 3, dtype=torch.float64), 2)
    choice = next(c for c in explain() if c.operation == "farthest_points")
    assert choice.ran == "numba" and "float32" in choice.refused["triton"]


# errors


def test_coordinates_that_are_not_finite_are_named(implementation):
    x = torch.rand(10, 3)
    x[7, 1] = torch.nan
    with pytest.raises(ShapeError, match=r"^x: got nan or inf in row 7.*finite"):
        farthest_points(x, 2)


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda x: farthest_points(x[0], 2), "x"),
        (lambda x: farthest_points(x.long(), 2), "x"),
        (lambda x: farthest_points(x, 0), "num"),
        (lambda x: farthest_points(x, 0.5), "num"),
        (lambda x: farthest_points(x, 2, ptr=torch.tensor([0, 9])), "ptr"),
        (lambda x: farthest_points(x, 2, ptr=torch.tensor([0.0, 10.0])), "ptr"),
        (lambda x: farthest_points(x, 2, start=10), "start"),
        (lambda x: farthest_points(x, 2, start=-1), "start"),
        (lambda x: farthest_points(x, 2, start=1.0), "start"),
        (lambda x: farthest_points(x, 2, start="center"), "start"),
        (lambda x: farthest_points(x, 2, start=torch.tensor([0, 0])), "start"),
        (lambda x: farthest_points(x, 2, start=torch.tensor([0.0])), "start"),
        (lambda x: farthest_points(x, 2, ptr=torch.tensor([0, 4, 10]), start=5), "start"),
    ],
)
def test_arguments_that_do_not_fit_are_named(implementation, call, argument):
    with pytest.raises(ShapeError, match=rf"^{argument}: "):
        call(torch.rand(10, 3))


@pytest.mark.gpu
def test_gpu_equals_cpu_to_the_bit():
    ptr = torch.tensor([0, 20, 20, 9000, 9001])
    for x in (torch.rand(9001, 3), lattice_cloud(9001, 3), torch.rand(9001, 16)):
        expected = farthest_points(x, 600, ptr=ptr)
        found = farthest_points(x.cuda(), 600, ptr=ptr.cuda())
        assert torch.equal(found[0].cpu(), expected[0]) and torch.equal(found[1].cpu(), expected[1])
    large = torch.rand(20_000, 3)  # for the reference
    assert torch.equal(farthest_points(large.cuda(), 50)[0].cpu(), farthest_points(large, 50)[0])


# Triton, on the CPU by its interpreter, which must be chosen before Triton is imported

INTERPRETED = """
import torch
from geoattn.kernels.farthest_points import cuda, reference

generator = torch.Generator().manual_seed(0)
ptr = torch.tensor([0, 12, 12, 152, 153])
for dim, lattice in [(3, False), (2, True)]:
    x = torch.rand(153, dim, generator=generator)
    if lattice:
        x = (x * 5).round() / 256
    for args in [(x, ptr, 30, None), (x, ptr, 150, torch.tensor([3, 0, 70, 0])), (x, None, 4, torch.tensor([2]))]:
        found, expected = cuda.farthest_search(*args), reference.farthest_search(*args)
        assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1]), (dim, lattice)
assert cuda.farthest_search(torch.zeros(0, 3), None, 2, None)[0].shape == (0,)
"""

COMPILED = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from geoattn.kernels.farthest_points.cuda import farthest_fwd_kernel as kernel

constants = {"BLOCK": 1024}
types = {"x": "*fp32", "ptr": "*i64", "ptr_out": "*i64", "first": "*i64", "idx": "*i64"}
signature = {name: "constexpr" if name in constants else types.get(name, "i32") for name in kernel.arg_names}
places = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
source = ASTSource(kernel, signature=signature, constexprs=places)
options = {"num_warps": 2, "enable_fp_fusion": False}
ptx = triton.compile(source, target=GPUTarget("cuda", 80, 32), options=options).asm["ptx"]
assert "mul.rn.f32" in ptx and "fma" not in ptx
"""


@pytest.mark.parametrize("script", [INTERPRETED, COMPILED], ids=["interpreted", "compiled"])
def test_triton(script):
    """The kernel gives the reference's answer, and compiles for a GPU without fused multiply-add."""
    pytest.importorskip("triton")
    environment = {**os.environ, "TRITON_INTERPRET": "1" if script is INTERPRETED else "0"}
    run = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=240)
    assert run.returncode == 0, run.stderr
