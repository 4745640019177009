"""The inner loops of `segment_outer` in vector instructions: matrix products with the rows of one target's edges."""

from collections.abc import Callable

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from geoattn.kernels._lanes import I64, Lanes

ROWS = 4
"""Rows of the result that are summed at a time, each in a vector of the columns."""


def _sum_rows(
    lanes: Lanes,
    rows: list[ir.Value],
    vectors: Callable[[ir.Value], ir.Value],
    scalars: Callable[[ir.Value], list[ir.Value]],
    steps: tuple[ir.Value, ir.Value],
    offset: ir.Value,
    width: int,
) -> None:
    """``rows[r][offset:] = sum_q scalars(q)[r] * vectors(q)[offset:]`` over q in the range ``steps``."""
    totals = [lanes.variable(lanes.constant(0.0, width)) for _ in rows]
    with lanes.loop(steps[0], steps[1], I64(1)) as (q, _):
        vector = lanes.load(vectors(q), offset, width)
        for total, scalar in zip(totals, scalars(q), strict=True):
            lanes.increase(total, lanes.mul(lanes.splat(lanes.builder.load(scalar), width), vector))
    for total, row in zip(totals, rows, strict=True):
        lanes.store(lanes.builder.load(total), row, offset)


def _in_blocks(lanes: Lanes, start: ir.Value, stop: ir.Value, body: Callable[[list[ir.Value]], None]) -> None:
    """Cover the range by calls ``body([ROWS indices])``, then ``body([index])``."""
    builder = lanes.builder
    whole = builder.add(start, builder.and_(builder.sub(stop, start), I64(-ROWS)))
    with lanes.loop(start, whole, I64(ROWS)) as (first, _):
        body([builder.add(first, I64(r)) for r in range(ROWS)])
    with lanes.loop(whole, stop, I64(1)) as (single, _):
        body([single])


def _sizes(lanes: Lanes, argument: int) -> list[ir.Value]:
    kind = lanes.signature.args[argument]
    array = lanes.context.make_array(kind)(lanes.context, lanes.builder, lanes.args[argument])
    return cgutils.unpack_tuple(lanes.builder, array.shape)


@intrinsic
def outer_of_group(typing, z, i, u, t, edge_id, start, stop):
    """``z[i] = sum_p u[e] (x) t[e]`` with ``e = edge_id[p]`` over positions p from start to stop."""

    def generate(context, builder, signature, args):
        lanes = Lanes(context, builder, signature, args, z.dtype)
        _, height, columns = _sizes(lanes, 0)
        matrix, edges, steps = lanes.place(0), lanes.start(4), (args[5], args[6])

        def edge(p: ir.Value) -> ir.Value:
            return builder.load(lanes.offset(edges, p))

        def span(offset: ir.Value, width: int) -> None:
            def block(at: list[ir.Value]) -> None:
                rows = [lanes.offset(matrix, builder.mul(a, columns)) for a in at]

                def scalars(p: ir.Value) -> list[ir.Value]:
                    row = lanes.place(2, edge(p))
                    return [lanes.offset(row, a) for a in at]

                _sum_rows(lanes, rows, lambda p: lanes.place(3, edge(p)), scalars, steps, offset, width)

            _in_blocks(lanes, I64(0), height, block)

        lanes.spans(columns, span)
        return context.get_dummy_value()

    i64 = types.int64
    return types.void(z, i64, u, t, edge_id, i64, i64), generate


@intrinsic
def rows_times_matrix(typing, z, i, v, out, edge_id, start, stop):
    """``out[e, b] = sum_a v[e, a] * z[i, a, b]`` with ``e = edge_id[p]`` for positions p from start to stop."""

    def generate(context, builder, signature, args):
        lanes = Lanes(context, builder, signature, args, z.dtype)
        _, height, columns = _sizes(lanes, 0)
        matrix, edges = lanes.place(0), lanes.start(4)

        def span(offset: ir.Value, width: int) -> None:
            def block(positions: list[ir.Value]) -> None:
                edge = [builder.load(lanes.offset(edges, p)) for p in positions]
                factors, rows = [lanes.place(2, e) for e in edge], [lanes.place(3, e) for e in edge]

                def vectors(a: ir.Value) -> ir.Value:
                    return lanes.offset(matrix, builder.mul(a, columns))

                def scalars(a: ir.Value) -> list[ir.Value]:
                    return [lanes.offset(row, a) for row in factors]

                _sum_rows(lanes, rows, vectors, scalars, (I64(0), height), offset, width)

            _in_blocks(lanes, args[5], args[6], block)

        lanes.spans(columns, span)
        return context.get_dummy_value()

    i64 = types.int64
    return types.void(z, i64, v, out, edge_id, i64, i64), generate


@intrinsic
def matrix_times_rows(typing, z, i, v, out, edge_id, start, stop):
    """``out[e, a] = sum_b z[i, a, b] * v[e, b]`` with ``e = edge_id[p]`` for positions p from start to stop."""

    def generate(context, builder, signature, args):
        lanes = Lanes(context, builder, signature, args, z.dtype)
        _, height, columns = _sizes(lanes, 0)
        matrix, edges = lanes.place(0), lanes.start(4)

        def block(at: list[ir.Value]) -> None:
            rows = [lanes.offset(matrix, builder.mul(a, columns)) for a in at]
            with lanes.loop(args[5], args[6], I64(1)) as (p, _):
                edge = builder.load(lanes.offset(edges, p))
                vector = lanes.place(2, edge)
                if len(at) == 1:
                    dots = lanes.dot(rows[0], vector, columns)
                else:
                    dots = lanes.dot4(rows, [vector] * ROWS, columns)
                lanes.store(dots, lanes.place(3, edge), at[0])

        _in_blocks(lanes, I64(0), height, block)
        return context.get_dummy_value()

    i64 = types.int64
    return types.void(z, i64, v, out, edge_id, i64, i64), generate
