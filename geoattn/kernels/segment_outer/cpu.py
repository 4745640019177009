"""`segment_outer` and its gradients for the CPU: small matrix products in vector registers, a target at a time."""

# mypy: disable-error-code=no-untyped-def

import functools

from numba import njit
from torch import Tensor

from geoattn.kernels._lanes import checksum
from geoattn.kernels._memory import large_pages
from geoattn.kernels._threads import run_rows
from geoattn.kernels.segment_outer import _simd
from geoattn.kernels.segment_outer._simd import matrix_times_rows, outer_of_group, rows_times_matrix


@functools.cache
def _kernels():
    version = checksum(_simd.__file__)  # among the constants of a kernel, it is compiled anew when _simd.py changes

    @njit(nogil=True, cache=True)
    def outer(first, last, ptr, edge_id, u, t, z):
        assert version >= 0
        for i in range(first, last):
            outer_of_group(z, i, u, t, edge_id, ptr[i], ptr[i + 1])

    @njit(nogil=True, cache=True)
    def product(first, last, ptr, edge_id, z, v, out):
        assert version >= 0
        for i in range(first, last):
            matrix_times_rows(z, i, v, out, edge_id, ptr[i], ptr[i + 1])

    @njit(nogil=True, cache=True)
    def product_transposed(first, last, ptr, edge_id, z, v, out):
        assert version >= 0
        for i in range(first, last):
            rows_times_matrix(z, i, v, out, edge_id, ptr[i], ptr[i + 1])

    return outer, product, product_transposed


def outer_rows(u: Tensor, t: Tensor, ptr: Tensor, edge_id: Tensor) -> Tensor:
    """See `geoattn.kernels.segment_outer.outer_rows`."""
    z = large_pages(u.new_empty(ptr.shape[0] - 1, u.shape[1], t.shape[1]))
    _run(_kernels()[0], ptr, edge_id, u.shape[1] * t.shape[1], u, t, z)
    return z


def matrix_rows(z: Tensor, v: Tensor, transposed: bool, ptr: Tensor, edge_id: Tensor) -> Tensor:
    """See `geoattn.kernels.segment_outer.matrix_rows`."""
    out = large_pages(v.new_empty(v.shape[0], z.shape[2 if transposed else 1]))
    _run(_kernels()[2 if transposed else 1], ptr, edge_id, z.shape[1] * z.shape[2], z, v, out)
    return out


def _run(kernel, ptr: Tensor, edge_id: Tensor, work: int, *tensors: Tensor) -> None:
    arrays = (tensor.numpy() for tensor in tensors)
    run_rows(kernel, ptr.numpy(), edge_id.shape[0] * work, ptr.numpy(), edge_id.numpy(), *arrays)
