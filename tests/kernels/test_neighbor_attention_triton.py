"""The Triton kernels of neighbor_attention without a GPU: interpreted, and compiled for a GPU that is not there."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton")

INTERPRETED = """
import importlib
import itertools
import torch
from geoattn.kernels import Neighborhood, neighbor_attention, use

cpu, cuda = (importlib.import_module(f"geoattn.kernels.neighbor_attention.{module}") for module in ("cpu", "cuda"))
cpu.attention_rows, cpu.attention_rows_backward = cuda.attention_rows, cuda.attention_rows_backward

torch.manual_seed(0)
tolerance = {torch.float32: dict(rtol=1e-5, atol=1e-5), torch.float64: dict(rtol=1e-12, atol=1e-12)}

def compare(function, leaves, wanted):
    found = []
    for implementation in ("numba", "reference"):
        inputs = [leaf.detach().requires_grad_(want) for leaf, want in zip(leaves, wanted)]
        with use(implementation):
            out = function(*inputs)
        slope = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
        found.append([out, *torch.autograd.grad(out, [x for x in inputs if x.requires_grad], slope)])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, **tolerance[a.dtype])

# hubs of more edges than a tile holds at both ends, and isolated targets; no edges; one edge
order = torch.arange(45)
hub = torch.stack([order % 3 * (order >= 30), order.clamp(min=40) - 40])
graphs = [(hub, 7, 4), (hub[:, :0], 2, 2), (hub[:, :1], 1, 1)]
# padded heads and widths; two programs of heads; several tiles
sizes = {torch.float32: [(3, 5, 2), (5, 128, 3), (8, 16, 16)], torch.float64: [(2, 3, 4)]}
for dtype, (edge_index, targets, sources), kv in itertools.product(sizes, graphs, ("node", "edge")):
    nbr = Neighborhood.from_edge_index(edge_index.flip(1), targets, sources)
    rows = sources if kv == "node" else nbr.num_edges
    for heads, dim, dim_v in sizes[dtype]:
        q, k, v = (torch.randn(n, heads, d, dtype=dtype) for n, d in ((targets, dim), (rows, dim), (rows, dim_v)))
        bias = torch.randn(nbr.num_edges, heads, dtype=dtype)
        bias[torch.rand(bias.shape) < 0.2] = -torch.inf
        bias[nbr.edge_id[nbr.target == 2]] = -torch.inf
        run = lambda q, k, v, bias=None: neighbor_attention(q, k, v, nbr, bias, kv=kv)
        compare(run, (q, k, v, bias), (True, True, True, True))
        compare(run, (q, k, v, bias[:, :1].contiguous()), (True, True, True, True))
    compare(run, (q, k, v), (True, True, True))
nbr = Neighborhood.from_edge_index(hub, 7, 4)
q, k, v, bias = (torch.randn(*shape) for shape in ((7, 2, 4), (4, 2, 4), (4, 2, 3), (45, 2)))
for wanted in ((True, False, False, False), (False, True, False, False), (False, False, True, True)):
    compare(lambda q, k, v, bias: neighbor_attention(q, k, v, nbr, bias), (q, k, v, bias), wanted)
packed = torch.randn(5, 3, 2, 8)  # rows that do not follow one another
square = Neighborhood.from_edge_index(hub, 5)
compare(lambda x: neighbor_attention(*x.unbind(1), square), (packed,), (True,))
per_edge = torch.randn(45, 2, 2, 8)
compare(lambda x, q: neighbor_attention(q, *x.unbind(1), square, kv="edge"), (per_edge, packed[:, 0]), (True, True))
k[1] = torch.nan  # stays with the targets that have this source
reached = [i in nbr.target[nbr.source == 1] for i in range(7)]
assert neighbor_attention(q, k, v, nbr).isnan()[:, 0, 0].tolist() == reached
"""

COMPILED = """
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
import importlib

cuda = importlib.import_module("geoattn.kernels.neighbor_attention.cuda")
constants = {"SCALE": 0.3, "HAS_BIAS": True, "BIAS_HEADS": 8, "HEADS": 8, "DIM_K": 16, "DIM_V": 16}
constants |= {"BLOCK_E": 16, "BLOCK_H": 8, "BLOCK_K": 16, "BLOCK_V": 16}
constants |= dict.fromkeys(("WANT_Q", "WANT_BIAS", "WANT_EDGE_K", "WANT_EDGE_V", "WANT_K", "WANT_V"), True)
kernels = {name: kernel for name, kernel in vars(cuda).items() if name.endswith("_kernel")}
assert len(kernels) == 3
for kernel in kernels.values():
    for real, accumulator in (("bf16", tl.float32), ("fp64", tl.float64)):
        used = {n: v for n, v in (constants | {"DTYPE": accumulator}).items() if n in kernel.arg_names}
        kinds = dict.fromkeys(("row_ptr", "other", "edge_id"), "*i64")
        kinds |= dict.fromkeys(("q_stride", "k_stride", "v_stride"), "i32")
        kinds |= dict.fromkeys(("lse", "mean"), "*fp64" if real == "fp64" else "*fp32")
        types = {n: "constexpr" if n in used else kinds.get(n, "*" + real) for n in kernel.arg_names}
        places = {(kernel.arg_names.index(n),): value for n, value in used.items()}
        aligned = {(i,): [["tt.divisibility", 16]] for i, n in enumerate(kernel.arg_names) if n not in used}
        source = ASTSource(kernel, types, places, aligned)
        options = {"num_warps": 2, "enable_fp_fusion": True}
        built = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
        if real == "bf16":
            assert "ld.global.v4.b32" in built.asm["ptx"]  # rows are read 16 bytes at a time
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
