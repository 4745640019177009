"""Scalar functions for compiled CPU loops that the compiler can put into vector registers."""

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload

FAST = {"reassoc", "contract", "nsz", "arcp"}
"""Fast-math flags of the loops: sums may be reordered; infinities and NaN keep their meaning."""


@intrinsic
def _float32_from_bits(typingctx: Any, bits: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.int32), codegen


@njit(fastmath=FAST, inline="always")
def _exp32(x):  # type: ignore[no-untyped-def]
    """exp of a float32, within 2 units in the last place; x is clamped to [-87, 88].

    2^n exp(f) with |f| <= ln(2) / 2, ln(2) in two parts, and the minimax polynomial of the Cephes library.
    """
    x = x if x > np.float32(-87.0) else np.float32(-87.0)
    x = x if x < np.float32(88.0) else np.float32(88.0)
    n = np.float32(math.floor(x * np.float32(1.4426950408889634) + np.float32(0.5)))
    f = x - n * np.float32(0.693359375) + n * np.float32(2.12194440e-4)
    p = np.float32(1.9875691500e-4)
    p = p * f + np.float32(1.3981999507e-3)
    p = p * f + np.float32(8.3334519073e-3)
    p = p * f + np.float32(4.1665795894e-2)
    p = p * f + np.float32(1.6666665459e-1)
    p = p * f + np.float32(5.0000001201e-1)
    p = p * f * f + f + np.float32(1.0)
    return p * _float32_from_bits((np.int32(n) + np.int32(127)) << np.int32(23))


def exp(x):  # type: ignore[no-untyped-def]
    """exp of a float32 (vectorisable) or float64 (the C library's)."""
    raise NotImplementedError("exp is for compiled loops")


@overload(exp, inline="always")
def _overload_exp(x):  # type: ignore[no-untyped-def]
    if x == types.float32:
        return lambda x: _exp32(x)
    return lambda x: math.exp(x)
