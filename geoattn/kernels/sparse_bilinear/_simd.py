"""The inner loops of `sparse_bilinear` in vector instructions: one row of a product, straight through the table."""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from geoattn.kernels._lanes import I64, Lanes

VECTORS = 2
"""Vectors of channels a loop over the table keeps in registers, twice; as many as 16 registers of 256 bits hold."""


@intrinsic
def contract_row(typing, a, i, b, j, factor, f, out, o, fresh, order, value):
    """``out[o, r, c] = sum factor[f, q, c] * value[t] * a[i, s, c] * b[j, u, c]`` over the table in one order.

    Args:
        a, i: ``[., size, C]`` and which row of it.
        b, j: likewise, or ``[., size]``, the same for all channels.
        factor, f: as a, or None for ones.
        out, o: as a; ``[., size]`` takes the sum over the channels.
        fresh: if false, the result is added to what ``out`` holds.
        order, value: see `geoattn.kernels.sparse_bilinear.table`.
    """

    def generate(context, builder, signature, args):
        lanes = Lanes(context, builder, signature, args, a.dtype)
        row_a, row_b, row_out = lanes.place(0), lanes.place(2), lanes.place(6)
        row_factor = None if isinstance(factor, types.NoneType) else lanes.place(4)
        arrays = [
            context.make_array(kind)(context, builder, array)
            for kind, array in zip(order.types, cgutils.unpack_tuple(builder, args[9]), strict=True)
        ]
        out_ptr, run_factor, run_ptr, index_a, index_b = (array.data for array in arrays)
        size_out = builder.sub(cgutils.unpack_tuple(builder, arrays[0].shape)[0], I64(1))
        channels = cgutils.unpack_tuple(builder, context.make_array(a)(context, builder, args[0]).shape)[2]
        coefficient = lanes.start(10)
        add = builder.icmp_unsigned("==", args[8], ir.Constant(args[8].type, 0))

        def entry(index: ir.Value, at: ir.Value) -> ir.Value:
            return builder.sext(builder.load(lanes.offset(index, at)), I64)

        def between(index: ir.Value, at: ir.Value):
            return lanes.loop(entry(index, at), entry(index, builder.add(at, I64(1))), I64(1))

        def load(row: ir.Value, component: ir.Value, offset: ir.Value, width: int) -> ir.Value:
            return lanes.load(row, builder.add(builder.mul(component, channels), offset), width)

        def span(offset: ir.Value, width: int) -> None:
            zero = lanes.constant(0.0, width)
            total, run = lanes.variable(zero), lanes.variable(zero)
            with lanes.loop(I64(0), size_out, I64(1)) as (r, _):
                builder.store(zero, total)
                with between(out_ptr, r) as (q, _):
                    builder.store(zero, run)
                    with between(run_ptr, q) as (t, _):
                        scale = builder.load(lanes.offset(coefficient, t))
                        term, u = load(row_a, entry(index_a, t), offset, width), entry(index_b, t)
                        if b.ndim == 2:
                            scale = lanes.mul(scale, builder.load(lanes.offset(row_b, u)))
                        else:
                            term = lanes.mul(term, load(row_b, u, offset, width))
                        lanes.increase(run, lanes.mul(lanes.splat(scale, width), term))
                    part = builder.load(run)
                    if row_factor is not None:
                        part = lanes.mul(part, load(row_factor, entry(run_factor, q), offset, width))
                    lanes.increase(total, part)
                finish(r, builder.load(total), offset, width)

        def finish(r: ir.Value, value: ir.Value, offset: ir.Value, width: int) -> None:
            place, more = builder.add(builder.mul(r, channels), offset), add
            if out.ndim == 2:
                place, value = r, value if width == 1 else lanes.first(lanes.halve(value, 1))
                more, width = builder.or_(add, builder.icmp_unsigned("!=", offset, I64(0))), 1
            result = lanes.variable(value)
            with builder.if_then(more):
                lanes.increase(result, lanes.load(row_out, place, width))
            lanes.store(builder.load(result), row_out, place)

        lanes.spans(channels, span, VECTORS)
        return context.get_dummy_value()

    i64 = types.int64
    return types.void(a, i64, b, i64, factor, i64, out, i64, types.boolean, order, value), generate
