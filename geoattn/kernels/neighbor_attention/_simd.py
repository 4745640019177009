"""Vector instructions for the CPU kernels of `neighbor_attention`, written out as LLVM IR behind Numba intrinsics.

A *row* holds all heads of one node, `[H * D]`. A *block* holds the logits of up to `EDGES` edges, flat
`[EDGES * heads_padded]`, where the number of heads is padded to a power of two: a vector of `LANES` numbers then always
holds the same heads in the same lanes, whatever the edge.
"""

import math

from numba import types
from numba.extending import intrinsic

from geoattn.kernels._lanes import I64, Lanes

LANES = 16
"""Vector length for blocks of logits, for float32 and float64 alike."""


def _generate_dot_heads(subtract: bool):
    """Code for ``out[at + h] = sum_d a[i, h*dim + d] * b[j, h*dim + d]``, less ``minus[m, h0 + h]`` if asked."""

    def generate(context, builder, signature, args):
        lanes = Lanes(context, builder, signature, args, signature.args[0].dtype)
        a, b, out, heads, dim = lanes.place(0), lanes.place(2), lanes.place(6), args[4], args[5]
        minus = lanes.offset(lanes.place(8), args[10]) if subtract else None

        def finish(value, h, width):
            if subtract:
                value = lanes.builder.fsub(value, lanes.load(minus, h, width))
            lanes.store(value, out, h)

        whole = builder.and_(heads, I64(-4))
        with lanes.loop(I64(0), whole, I64(4)) as (h, _):
            starts = [builder.mul(builder.add(h, I64(z)), dim) for z in range(4)]
            four = lanes.dot4([lanes.offset(a, s) for s in starts], [lanes.offset(b, s) for s in starts], dim)
            finish(four, h, 4)
        with lanes.loop(whole, heads, I64(1)) as (h, _):
            start = builder.mul(h, dim)
            finish(lanes.dot(lanes.offset(a, start), lanes.offset(b, start), dim), h, 1)
        return context.get_dummy_value()

    return generate


@intrinsic
def dot_heads(typing, a, i, b, j, heads, dim, out, at):
    """``out[at + h] = sum_d a[i, h*dim + d] * b[j, h*dim + d]``: one dot product per head of two rows."""
    i64 = types.int64
    return types.void(a, i64, b, i64, i64, i64, out, i64), _generate_dot_heads(subtract=False)


@intrinsic
def dot_heads_minus(typing, a, i, b, j, heads, dim, out, at, minus, m, h0):
    """`dot_heads`, less ``minus[m, h0 + h]``."""
    i64 = types.int64
    return types.void(a, i64, b, i64, i64, i64, out, i64, minus, i64, i64), _generate_dot_heads(subtract=True)


def _generate_add_scaled(terms: int):
    """Code for ``y[i, start:start+length] += sum of terms factor * x[j, start:start+length]``."""

    def generate(context, builder, signature, args):
        lanes = Lanes(context, builder, signature, args, signature.args[0].dtype)
        start, length, factors = args[2], args[3], args[4 : 4 + terms]
        y = lanes.offset(lanes.place(0), start)
        rows = [lanes.offset(lanes.place(4 + terms, j), start) for j in args[5 + terms :]]

        def body(offset, width):
            value = lanes.load(y, offset, width)
            for factor, row in zip(factors, rows, strict=True):
                value = lanes.add(value, lanes.mul(lanes.splat(factor, width), lanes.load(row, offset, width)))
            lanes.store(value, y, offset)

        lanes.spans(length, body)
        return context.get_dummy_value()

    return generate


@intrinsic
def add_scaled(typing, y, i, start, length, factor, x, j):
    """``y[i, s:s+n] += factor * x[j, s:s+n]``."""
    i64 = types.int64
    return types.void(y, i64, i64, i64, y.dtype, x, i64), _generate_add_scaled(1)


@intrinsic
def add_scaled4(typing, y, i, start, length, f0, f1, f2, f3, x, j0, j1, j2, j3):
    """``y[i, s:s+n] += f0 * x[j0, s:s+n] + ... + f3 * x[j3, s:s+n]``: reads and writes y once for four rows."""
    i64, dtype = types.int64, y.dtype
    signature = types.void(y, i64, i64, i64, dtype, dtype, dtype, dtype, x, i64, i64, i64, i64)
    return signature, _generate_add_scaled(4)


@intrinsic
def fill_row(typing, y, i, length, value):
    """``y[i, :n] = value``."""

    def generate(context, builder, signature, args):
        lanes = Lanes(context, builder, signature, args, signature.args[0].dtype)
        y = lanes.place(0)
        lanes.spans(args[2], lambda at, width: lanes.store(lanes.splat(args[3], width), y, at))
        return context.get_dummy_value()

    return types.void(y, types.int64, types.int64, y.dtype), generate


@intrinsic
def scale_span(typing, y, i, start, length, factor):
    """``y[i, s:s+n] *= factor``."""

    def generate(context, builder, signature, args):
        lanes = Lanes(context, builder, signature, args, signature.args[0].dtype)
        y = lanes.offset(lanes.place(0), args[2])

        def body(at, width):
            lanes.store(lanes.mul(lanes.load(y, at, width), lanes.splat(args[4], width)), y, at)

        lanes.spans(args[3], body)
        return context.get_dummy_value()

    return types.void(y, types.int64, types.int64, types.int64, y.dtype), generate


@intrinsic
def softmax_block(typing, block, edges, heads_padded, peak, total, fade):
    """One step of the online softmax over a block of logits, for all heads.

    Args:
        block: logits of the edges, then -inf up to a multiple of LANES; becomes exp(logit - peak).
        edges, heads_padded: how much of the block is filled.
        peak: running maximum per head, updated.
        total: running sum of exponentials per head, updated.
        fade: set to the factor by which what was accumulated before has to shrink.
            peak, total and fade are [max(heads_padded, LANES)] and repeat with the period of the heads.
    """

    def generate(context, builder, signature, args):
        lanes = Lanes(context, builder, signature, args, signature.args[0].dtype)
        block, peak, total, fade = (lanes.start(z) for z in (0, 3, 4, 5))
        period, end = args[2], builder.mul(args[1], args[2])
        stride = builder.select(builder.icmp_unsigned("<", period, I64(LANES)), I64(LANES), period)
        nothing, zero = lanes.constant(-math.inf, LANES), lanes.constant(0.0, LANES)
        with lanes.loop(I64(0), stride, I64(LANES)) as (group, _):
            before = lanes.load(peak, group, LANES)
            largest, added = lanes.variable(nothing), lanes.variable(zero)
            with lanes.loop(group, end, stride) as (at, _):
                builder.store(lanes.larger(lanes.load(block, at, LANES), builder.load(largest)), largest)
            after = lanes.larger(lanes.fold(builder.load(largest), period, lanes.larger), before)
            shift = builder.select(builder.fcmp_ordered("==", after, nothing), zero, after)
            with lanes.loop(group, end, stride) as (at, _):
                value = lanes.exp(builder.fsub(lanes.load(block, at, LANES), shift))
                lanes.store(value, block, at)
                lanes.increase(added, value)
            shrink = lanes.exp(builder.fsub(before, shift))
            grown = lanes.add(
                lanes.mul(lanes.load(total, group, LANES), shrink), lanes.fold(builder.load(added), period, lanes.add)
            )
            lanes.store(after, peak, group)
            lanes.store(shrink, fade, group)
            lanes.store(grown, total, group)
        return context.get_dummy_value()

    i64 = types.int64
    return types.void(block, i64, i64, peak, total, fade), generate


@intrinsic
def softmax_backward_block(typing, p, ds, edges, heads_padded):
    """In place ``p = exp(p)``, ``ds = p * ds``, from logits less log-sum-exp and gradients of p less their mean.

    No probability exceeds 1, however large the logits and with them the rounding of their differences.
    """

    def generate(context, builder, signature, args):
        lanes = Lanes(context, builder, signature, args, signature.args[0].dtype)
        p, ds = lanes.start(0), lanes.start(1)
        with lanes.loop(I64(0), builder.mul(args[2], args[3]), I64(LANES)) as (at, _):
            x, zero = lanes.load(p, at, LANES), lanes.constant(0.0, LANES)
            value = lanes.exp(builder.select(builder.fcmp_ordered(">", x, zero), zero, x))
            lanes.store(value, p, at)
            lanes.store(lanes.mul(value, lanes.load(ds, at, LANES)), ds, at)
        return context.get_dummy_value()

    return types.void(p, ds, types.int64, types.int64), generate
