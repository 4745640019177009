"""The Triton kernels of both bilinear operations without a GPU: interpreted, and compiled for one that is not there."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton")

INTERPRETED = """
import importlib
import itertools
import torch
from geoattn.kernels import BilinearTable, Neighborhood, segment_outer, sparse_bilinear, use

# the operations run the Triton kernels where they would run those for the CPU
for operation, names in {"sparse_bilinear": ["contract"], "segment_outer": ["outer_rows", "matrix_rows"]}.items():
    cpu, cuda = (importlib.import_module(f"geoattn.kernels.{operation}.{module}") for module in ("cpu", "cuda"))
    for name in names:
        setattr(cpu, name, getattr(cuda, name))

torch.manual_seed(0)
tolerance = {torch.float32: dict(rtol=1e-4, atol=1e-4), torch.float64: dict(rtol=1e-11, atol=1e-11)}

def compare(function, *leaves):
    found = []
    for implementation in ("numba", "reference"):
        inputs = [leaf.detach().requires_grad_() for leaf in leaves]
        with use(implementation):
            y = function(*inputs)
            slope = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
            grads = torch.autograd.grad((y * slope).sum(), inputs, create_graph=True)
            seconds = torch.autograd.grad(sum(g.square().sum() for g in grads), inputs)
        found.append([y, *grads, *seconds])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, **tolerance[a.dtype])

dense = torch.tensor([[[0, 1.5], [0, 0]], [[-1, 0], [0.5, 2]]])
table = BilinearTable.from_dense(dense, torch.tensor([[[1, 1], [1, 1]], [[0, 0], [0, 0]]]))

def compare_bilinear(nbr, dtype, channels, per_edge, shared, weighted):
    edges = nbr.num_edges
    leaves = [torch.randn(edges if per_edge else nbr.num_sources, 2, channels, dtype=dtype)]
    leaves.append(torch.randn(edges, 2, *(() if shared else (channels,)), dtype=dtype))
    if weighted:
        leaves.append(torch.randn(edges, 2, channels, dtype=dtype))
    edges = None if per_edge else nbr
    compare(lambda x, y, weight=None: sparse_bilinear(x, y, table, weight, edges), *leaves)

# a hub of more edges than are looked at together, an isolated target; no edges
hub = torch.stack([torch.arange(38) % 3, torch.arange(38).clamp(min=35) - 35])
nbr = Neighborhood.from_edge_index(hub.flip(1), 4, 3)
for case in itertools.product((False, True), repeat=3):
    compare_bilinear(nbr, torch.float64, 3, *case)
compare_bilinear(nbr, torch.float32, 130, False, True, True)  # 130 channels take two programs
for u, t in ((1, 3), (17, 70)):
    for dtype in tolerance:
        compare(lambda u, t: segment_outer(u, t, nbr), *(torch.randn(38, n, dtype=dtype) for n in (u, t)))
nothing = Neighborhood.from_edge_index(hub[:, :0], 2, 2)
compare_bilinear(nothing, torch.float32, 2, False, True, True)
compare(lambda u, t: segment_outer(u, t, nothing), torch.randn(0, 2), torch.randn(0, 3))
"""

COMPILED = """
import importlib
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

bilinear, outer = (
    importlib.import_module(f"geoattn.kernels.{name}.cuda") for name in ("sparse_bilinear", "segment_outer")
)
blocks = {"BLOCK_E": 16, "BLOCK_C": 32, "BLOCK_U": 16, "BLOCK_T": 32, "BLOCK_IN": 16, "BLOCK_OUT": 16}
where = {"WHERE_A": 1, "WHERE_B": 2, "WHERE_FACTOR": 2, "WHERE_OUT": 0}
sums = {"OVER_EDGES": True, "OVER_CHANNELS": False, "SHARED": True, "WEIGHTED": True}
rows = {"OVER_EDGES": False, "OVER_CHANNELS": True, "SHARED": False, "WEIGHTED": True, "WHERE_B": 0, "WHERE_OUT": 2}
kernels = [
    (bilinear.contract_fwd_kernel, where | sums),
    (bilinear.contract_fwd_kernel, where | rows),
    (outer.segment_outer_fwd_kernel, {}),
    (outer.segment_outer_bwd_kernel, {}),
]
kinds = dict.fromkeys(("ptr", "row_ptr", "group_of", "other", "edge_id"), "*i64")
kinds |= dict.fromkeys(("out_ptr", "run_factor", "run_ptr", "index_a", "index_b"), "*i32")
floats = ("a", "b", "factor", "out", "u", "t", "z", "v")
for kernel, constants in kernels:
    for real, accumulator in (("bf16", tl.float32), ("fp32", tl.float32), ("fp64", tl.float64)):
        used = {n: v for n, v in (blocks | constants | {"DTYPE": accumulator}).items() if n in kernel.arg_names}
        named = kinds | {"value": "*fp64" if real == "fp64" else "*fp32"} | dict.fromkeys(floats, "*" + real)
        types = {n: "constexpr" if n in used else named.get(n, "i32") for n in kernel.arg_names}
        places = {(kernel.arg_names.index(n),): value for n, value in used.items()}
        source = ASTSource(kernel, types, places)
        assert triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["ptx"]
"""


@pytest.mark.parametrize(
    ("program", "interpret"), [(INTERPRETED, "1"), (COMPILED, "0")], ids=["interpreted", "compiled"]
)
def test_triton(program, interpret, tmp_path):
    environment = os.environ | {"TRITON_INTERPRET": interpret, "TRITON_CACHE_DIR": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=280
    )
    assert result.returncode == 0, result.stderr
