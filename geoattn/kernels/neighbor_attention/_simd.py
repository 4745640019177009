"""Vector instructions for the CPU kernels of `neighbor_attention`, written out as LLVM IR behind Numba intrinsics.

Numba's own loops are no help here: with a head dimension known at compile time LLVM unrolls the loop over it to scalar
code, with one known at run time it spends more on set-up than on the 8 to 64 numbers. The functions below work on
512-bit vectors, which LLVM splits on machines with narrower ones. Lengths that are no multiple of a vector are finished
with shorter vectors and then one by one.

Arrays are C-contiguous. A *row* holds all heads of one node, `[H * D]`. A *block* holds the logits of up to
`EDGES` edges, flat `[EDGES * heads_padded]`, where the number of heads is padded to a power of two: a vector of
`LANES` numbers then always holds the same heads in the same lanes, whatever the edge.
"""

import math
from collections.abc import Callable, Sequence

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16
"""Vector length for blocks of logits, for float32 and float64 alike."""

CACHE_LINE = 64
_SECOND_LEVEL = 2  # as llvm.prefetch counts: 3 is the first level, 0 none
_REASSOCIATE = ("reassoc", "contract", "nsz", "arcp")  # not nnan, ninf: -inf masks an edge
_I32, _I64 = ir.IntType(32), ir.IntType(64)


def _bits(scalar: ir.Type) -> int:
    return 32 if isinstance(scalar, ir.FloatType) else 64


class _Lanes:
    """Arithmetic on vectors of one float type. Methods append instructions and return the result."""

    def __init__(self, context, builder, signature, args, dtype) -> None:
        self.context, self.builder, self.signature, self.args = context, builder, signature, args
        self.scalar = context.get_value_type(dtype)
        self.widest = 512 // _bits(self.scalar)

    def vector(self, width: int) -> ir.Type:
        return ir.VectorType(self.scalar, width)

    def place(self, argument: int, index: ir.Value | None = None) -> ir.Value:
        """Address of row ``index`` of a matrix, or of element ``index`` of a vector.

        Argument number ``argument`` is the array, the next one the index if none is given. Kernels name rows this way
        because a view such as ``x[i]`` costs an atomic reference count, and there the threads wait for one another.
        """
        array = self._array(argument)
        index = self.args[argument + 1] if index is None else index
        if self.signature.args[argument].ndim == 2:
            index = self.builder.mul(index, cgutils.unpack_tuple(self.builder, array.shape)[1])
        return self.builder.gep(array.data, [index])

    def start(self, argument: int) -> ir.Value:
        """Address of the first element of the array that is argument number ``argument``."""
        return self._array(argument).data

    def _array(self, argument: int):
        return self.context.make_array(self.signature.args[argument])(self.context, self.builder, self.args[argument])

    def offset(self, pointer: ir.Value, offset: ir.Value) -> ir.Value:
        return self.builder.gep(pointer, [offset])

    def load(self, pointer: ir.Value, offset: ir.Value, width: int) -> ir.Value:
        address = self.builder.gep(pointer, [offset])
        if width == 1:
            return self.builder.load(address)
        value = self.builder.load(self.builder.bitcast(address, self.vector(width).as_pointer()))
        value.align = _bits(self.scalar) // 8
        return value

    def store(self, value: ir.Value, pointer: ir.Value, offset: ir.Value) -> None:
        address = self.builder.gep(pointer, [offset])
        if isinstance(value.type, ir.VectorType):
            address = self.builder.bitcast(address, value.type.as_pointer())
        self.builder.store(value, address).align = _bits(self.scalar) // 8

    def constant(self, value: float, width: int) -> ir.Value:
        return ir.Constant(self.scalar, value) if width == 1 else ir.Constant(self.vector(width), [value] * width)

    def splat(self, value: ir.Value, width: int) -> ir.Value:
        if width == 1:
            return value
        empty = ir.Constant(self.vector(width), ir.Undefined)
        return self.shuffle(self.builder.insert_element(empty, value, _I32(0)), empty, [0] * width)

    def shuffle(self, a: ir.Value, b: ir.Value, lanes: Sequence[int]) -> ir.Value:
        return self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_I32, len(lanes)), list(lanes)))

    def mul(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.builder.fmul(a, b, flags=_REASSOCIATE)

    def add(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.builder.fadd(a, b, flags=_REASSOCIATE)

    def larger(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.builder.select(self.builder.fcmp_ordered(">", a, b), a, b)

    def call(self, name: str, *args: ir.Value) -> ir.Value:
        """An LLVM mathematical intrinsic on vectors, such as ``llvm.rint``."""
        kind = args[0].type
        name = f"llvm.{name}.v{kind.count}f{_bits(self.scalar)}"
        function_type = ir.FunctionType(kind, [kind] * len(args))
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, function_type, name), args)

    def variable(self, value: ir.Value) -> ir.AllocaInstr:
        """A variable that loops may change; LLVM keeps it in a register."""
        return cgutils.alloca_once_value(self.builder, value)

    def increase(self, variable: ir.AllocaInstr, value: ir.Value) -> None:
        self.builder.store(self.add(self.builder.load(variable), value), variable)

    def loop(self, start: ir.Value, stop: ir.Value, step: ir.Value):
        return cgutils.for_range_slice(self.builder, start, stop, step, intp=_I64)

    def spans(self, length: ir.Value, body: Callable[[ir.Value, int], None]) -> None:
        """Cover ``range(length)`` by calls ``body(offset, width)``: widest vectors first, single elements last."""
        whole = self.builder.and_(length, _I64(-self.widest))
        with self.loop(_I64(0), whole, _I64(self.widest)) as (offset, _):
            body(offset, self.widest)
        with self.builder.if_then(self.builder.icmp_unsigned("!=", whole, length), likely=False):
            offset, width = whole, self.widest // 2
            while width * _bits(self.scalar) >= 128:
                part = self.builder.and_(length, _I64(width))
                with self.builder.if_then(self.builder.icmp_unsigned("!=", part, _I64(0))):
                    body(offset, width)
                offset, width = self.builder.add(offset, part), width // 2
            with self.loop(offset, length, _I64(1)) as (single, _):
                body(single, 1)

    def halve(self, value: ir.Value, width: int) -> ir.Value:
        """Add upper half to lower half until ``width`` lanes are left."""
        while value.type.count > width:
            half = value.type.count // 2
            lower, upper = range(half), range(half, 2 * half)
            value = self.add(self.shuffle(value, value, lower), self.shuffle(value, value, upper))
        return value

    def sum_each(self, vectors: Sequence[ir.Value]) -> ir.Value:
        """The sums of four vectors as one vector of four, by adding transposed pairs inside 128-bit groups."""
        group = 128 // _bits(self.scalar)
        pairs = [self._add_interleaved(vectors[i], vectors[i + 1], group, 1) for i in (0, 2)]
        if group == 4:
            return self.halve(self._add_interleaved(pairs[0], pairs[1], group, 2), 4)
        return self.shuffle(self.halve(pairs[0], 2), self.halve(pairs[1], 2), range(4))

    def _add_interleaved(self, a: ir.Value, b: ir.Value, group: int, run: int) -> ir.Value:
        """In each group: ``run`` lanes of the folded a, ``run`` of the folded b, and so on."""
        lower = [
            start + lane + side
            for start in range(0, a.type.count, group)
            for first in range(0, group // 2, run)
            for side in (0, a.type.count)
            for lane in range(first, first + run)
        ]
        return self.add(self.shuffle(a, b, lower), self.shuffle(a, b, [lane + group // 2 for lane in lower]))

    def dot4(self, a: Sequence[ir.Value], b: Sequence[ir.Value], length: ir.Value) -> ir.Value:
        """Four dot products of vectors in memory, as one vector of four."""
        sums = [self.variable(self.constant(0.0, self.widest)) for _ in range(4)]
        rest = self.variable(self.constant(0.0, 4))

        def body(offset, width):
            products = [
                self.mul(self.load(x, offset, width), self.load(y, offset, width)) for x, y in zip(a, b, strict=True)
            ]
            if width == self.widest:
                for total, product in zip(sums, products, strict=True):
                    self.increase(total, product)
            elif width > 1:
                self.increase(rest, self.sum_each(products))
            else:
                single = ir.Constant(self.vector(4), ir.Undefined)
                for z, product in enumerate(products):
                    single = self.builder.insert_element(single, product, _I32(z))
                self.increase(rest, single)

        self.spans(length, body)
        return self.add(self.sum_each([self.builder.load(total) for total in sums]), self.builder.load(rest))

    def dot(self, a: ir.Value, b: ir.Value, length: ir.Value) -> ir.Value:
        """The dot product of two vectors in memory."""
        total = self.variable(self.constant(0.0, self.widest))
        rest = self.variable(self.constant(0.0, 1))

        def body(offset, width):
            product = self.mul(self.load(a, offset, width), self.load(b, offset, width))
            if width == self.widest:
                self.increase(total, product)
            else:
                self.increase(rest, product if width == 1 else self.first(self.halve(product, 1)))

        self.spans(length, body)
        return self.add(self.first(self.halve(self.builder.load(total), 1)), self.builder.load(rest))

    def first(self, value: ir.Value) -> ir.Value:
        return self.builder.extract_element(value, _I32(0))

    def fold(self, value: ir.Value, period: ir.Value, combine: Callable[[ir.Value, ir.Value], ir.Value]) -> ir.Value:
        """Combine the lanes that are equal modulo ``period``, a power of two, and leave the result in each of them."""
        width = value.type.count
        step = width // 2
        while step:
            turned = self.shuffle(value, value, [(lane + step) % width for lane in range(width)])
            both = combine(value, turned)
            value = self.builder.select(self.builder.icmp_unsigned("<=", period, _I64(step)), both, value)
            step //= 2
        return value

    def exp(self, x: ir.Value) -> ir.Value:
        """e^x for x <= 0, to a unit in the last place; 0 where it would be below the normal numbers, NaN for NaN.

        x = n ln 2 + r with integer n and |r| <= ln 2 / 2, then the Taylor polynomial in r times 2^n.
        """
        width = x.type.count
        if _bits(self.scalar) == 32:
            integer, mantissa, bias, degree, lowest = _I32, 23, 127, 7, -86.5
            ln2_high, ln2_low = 0.693145751953125, 1.428606765330187e-06
        else:
            integer, mantissa, bias, degree, lowest = _I64, 52, 1023, 13, -707.5
            ln2_high, ln2_low = 6.93147180369123816490e-01, 1.90821492927058770002e-10
        whole, low = ir.VectorType(integer, width), self.constant(lowest, width)
        enough = self.builder.fcmp_ordered(">=", x, low)
        y = self.builder.select(enough, x, low)
        n = self.call("rint", self.builder.fmul(y, self.constant(math.log2(math.e), width)))
        r = self.call("fmuladd", n, self.constant(-ln2_high, width), y)
        r = self.call("fmuladd", n, self.constant(-ln2_low, width), r)
        power = self.constant(1 / math.factorial(degree), width)
        for k in reversed(range(degree)):
            power = self.call("fmuladd", power, r, self.constant(1 / math.factorial(k), width))
        exponent = self.builder.add(self.builder.fptosi(n, whole), ir.Constant(whole, [bias] * width))
        exponent = self.builder.shl(exponent, ir.Constant(whole, [mantissa] * width))
        value = self.builder.fmul(power, self.builder.bitcast(exponent, x.type))
        nothing = self.builder.select(self.builder.fcmp_unordered("uno", x, x), x, self.constant(0.0, width))
        return self.builder.select(enough, value, nothing)


@intrinsic
def prefetch_row(typing, rows, row, length):
    """Ask for ``rows[row, :length]`` in the second-level cache; the first has too few requests in flight."""

    def generate(context, builder, signature, args):
        lanes = _Lanes(context, builder, signature, args, signature.args[0].dtype)
        first, byte_pointer = lanes.place(0), ir.IntType(8).as_pointer()
        function_type = ir.FunctionType(ir.VoidType(), [byte_pointer, _I32, _I32, _I32])
        function = builder.module.declare_intrinsic("llvm.prefetch", [byte_pointer], function_type)
        with lanes.loop(_I64(0), args[2], _I64(8 * CACHE_LINE // _bits(lanes.scalar))) as (offset, _):
            address = builder.bitcast(lanes.offset(first, offset), byte_pointer)
            builder.call(function, [address, _I32(0), _I32(_SECOND_LEVEL), _I32(1)])
        return context.get_dummy_value()

    return types.void(rows, types.int64, types.int64), generate


def _generate_dot_heads(subtract: bool):
    """Code for ``out[at + h] = sum_d a[i, h*dim + d] * b[j, h*dim + d]``, less ``minus[m, h0 + h]`` if asked."""

    def generate(context, builder, signature, args):
        lanes = _Lanes(context, builder, signature, args, signature.args[0].dtype)
        a, b, out, heads, dim = lanes.place(0), lanes.place(2), lanes.place(6), args[4], args[5]
        minus = lanes.offset(lanes.place(8), args[10]) if subtract else None

        def finish(value, h, width):
            if subtract:
                value = lanes.builder.fsub(value, lanes.load(minus, h, width))
            lanes.store(value, out, h)

        whole = builder.and_(heads, _I64(-4))
        with lanes.loop(_I64(0), whole, _I64(4)) as (h, _):
            starts = [builder.mul(builder.add(h, _I64(z)), dim) for z in range(4)]
            four = lanes.dot4([lanes.offset(a, s) for s in starts], [lanes.offset(b, s) for s in starts], dim)
            finish(four, h, 4)
        with lanes.loop(whole, heads, _I64(1)) as (h, _):
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
        lanes = _Lanes(context, builder, signature, args, signature.args[0].dtype)
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
        lanes = _Lanes(context, builder, signature, args, signature.args[0].dtype)
        y = lanes.place(0)
        lanes.spans(args[2], lambda at, width: lanes.store(lanes.splat(args[3], width), y, at))
        return context.get_dummy_value()

    return types.void(y, types.int64, types.int64, y.dtype), generate


@intrinsic
def scale_span(typing, y, i, start, length, factor):
    """``y[i, s:s+n] *= factor``."""

    def generate(context, builder, signature, args):
        lanes = _Lanes(context, builder, signature, args, signature.args[0].dtype)
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
        lanes = _Lanes(context, builder, signature, args, signature.args[0].dtype)
        block, peak, total, fade = (lanes.start(z) for z in (0, 3, 4, 5))
        period, end = args[2], builder.mul(args[1], args[2])
        stride = builder.select(builder.icmp_unsigned("<", period, _I64(LANES)), _I64(LANES), period)
        nothing, zero = lanes.constant(-math.inf, LANES), lanes.constant(0.0, LANES)
        with lanes.loop(_I64(0), stride, _I64(LANES)) as (group, _):
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
        lanes = _Lanes(context, builder, signature, args, signature.args[0].dtype)
        p, ds = lanes.start(0), lanes.start(1)
        with lanes.loop(_I64(0), builder.mul(args[2], args[3]), _I64(LANES)) as (at, _):
            x, zero = lanes.load(p, at, LANES), lanes.constant(0.0, LANES)
            value = lanes.exp(builder.select(builder.fcmp_ordered(">", x, zero), zero, x))
            lanes.store(value, p, at)
            lanes.store(lanes.mul(value, lanes.load(ds, at, LANES)), ds, at)
        return context.get_dummy_value()

    return types.void(p, ds, types.int64, types.int64), generate
