"""The Triton kernels without a GPU: run by Triton's interpreter, and compiled for a GPU that is not there."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton")

INTERPRETED = """
import importlib
import itertools
import torch
from geoattn.kernels import Neighborhood, gather_scatter, segment_reduce, segment_softmax, use

# the operations run the Triton kernels where they would run those for the CPU
for operation, names in {
    "segment_softmax": ["softmax_rows", "softmax_rows_backward"],
    "segment_reduce": ["segment_sum", "segment_spread", "segment_extremum", "segment_extremum_backward"],
    "gather_scatter": ["weighted_sum", "edge_dot"],
}.items():
    cpu, cuda = (importlib.import_module(f"geoattn.kernels.{operation}.{module}") for module in ("cpu", "cuda"))
    for name in names:
        setattr(cpu, name, getattr(cuda, name))

torch.manual_seed(0)
tolerance = {torch.float32: dict(rtol=1e-5, atol=1e-5), torch.float64: dict(rtol=1e-12, atol=1e-12)}

def compare(function, *leaves):
    found = []
    for implementation in ("numba", "reference"):
        inputs = [leaf.detach().requires_grad_() for leaf in leaves]
        with use(implementation):
            y = function(*inputs)
        slope = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
        found.append([y, *torch.autograd.grad((y * slope).sum(), inputs)])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, **tolerance[a.dtype])

# a hub of more edges than are looked at together, an isolated target; no edges; one edge
hub = torch.stack([torch.arange(45) % 3, torch.arange(45).clamp(min=40) - 40])
graphs = [(hub, 6, 3), (hub[:, :0], 2, 2), (hub[:, :1], 1, 1)]
for dtype, (edge_index, targets, sources) in itertools.product(tolerance, graphs):
    nbr = Neighborhood.from_edge_index(edge_index, targets, sources)
    for channels in (1, 3, 130) if dtype == torch.float32 else (3,):  # 130 takes two programs
        x = torch.randn(nbr.num_edges, channels, dtype=dtype)
        compare(lambda x: segment_softmax(x, nbr), x)
        for reduce in ("sum", "mean", "max", "min"):
            compare(lambda x: segment_reduce(x, nbr, reduce), (2 * x).round())
    for x_shape, weight_shape in [((5,), ()), ((3, 4), (3,)), ((130,), (130,)), ((2, 150), (2,))]:
        x = torch.randn(sources, *x_shape, dtype=dtype)
        compare(lambda x: gather_scatter(x, None, nbr), x)
        compare(lambda x, w: gather_scatter(x, w, nbr), x, torch.randn(nbr.num_edges, *weight_shape, dtype=dtype))

nbr = Neighborhood.from_edge_index(torch.tensor([[0] * 6, [0, 0, 1, 1, 2, 2]]), 3, 1)
x = torch.tensor([-torch.inf, -torch.inf, torch.inf, 1.0, torch.nan, 1.0])
assert segment_reduce(x, nbr, "max").nan_to_num(9, 8, -8).tolist() == [-8, 8, 9]
assert segment_reduce(x, nbr, "min").nan_to_num(9, 8, -8).tolist() == [-8, 1, 9]
assert segment_softmax(x, nbr)[:2].tolist() == [0, 0] and segment_softmax(x, nbr)[4:].isnan().all()
"""

COMPILED = """
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from geoattn.kernels.gather_scatter import cuda as gather_scatter
from geoattn.kernels.segment_reduce import cuda as segment_reduce
from geoattn.kernels.segment_softmax import cuda as segment_softmax

constants = {"DTYPE": tl.float32, "BLOCK_E": 16, "BLOCK_C": 64, "BLOCK_W": 4, "MEAN": True, "SIGN": -1.0}
integers = {"row_ptr": "*i64", "index": "*i64", "other": "*i64", "edge_id": "*i64"}
integers |= {"num_channels": "i32", "num_heads": "i32", "width": "i32"}
modules = (gather_scatter, segment_reduce, segment_softmax)
kernels = {name: kernel for module in modules for name, kernel in vars(module).items() if name.endswith("_kernel")}
assert len(kernels) == 8
for kernel in kernels.values():
    used = {name: value for name, value in constants.items() if name in kernel.arg_names}
    types = {n: "constexpr" if n in used else integers.get(n, "*bf16") for n in kernel.arg_names}
    places = {(kernel.arg_names.index(name),): value for name, value in used.items()}
    source = ASTSource(kernel, signature=types, constexprs=places)
    triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 4, "enable_fp_fusion": True})
"""


@pytest.mark.parametrize("script", [INTERPRETED, COMPILED], ids=["interpreted", "compiled"])
def test_triton(script):
    environment = {**os.environ, "TRITON_INTERPRET": "1" if script is INTERPRETED else "0"}
    run = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=280)
    assert run.returncode == 0, run.stderr
