"""Vector instructions for compiled CPU loops, written out as LLVM IR; what the `_simd.py` of the operations share.

Numba's own loops are no help for rows of 8 to 64 numbers: with a length known at compile time LLVM unrolls the loop to
scalar code, with one known at run time it spends more on set-up than on the numbers. `Lanes` works on 512-bit vectors,
which LLVM splits on machines with narrower ones. Lengths that are no multiple of a vector are finished with shorter
vectors and then one by one. Arrays are C-contiguous.
"""

import math
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

CACHE_LINE = 64
_SECOND_LEVEL = 2  # as llvm.prefetch counts: 3 is the first level, 0 none
I32, I64 = ir.IntType(32), ir.IntType(64)
_REASSOCIATE = ("reassoc", "contract", "nsz", "arcp")  # not nnan, ninf: -inf masks an edge


def bits(scalar: ir.Type) -> int:
    """Bits of a float type."""
    return 32 if isinstance(scalar, ir.FloatType) else 64


def checksum(file: str) -> int:
    """Changes with the source ``file`` of intrinsics and with this one.

    Numba's cache on disk watches the kernels' own file alone; this among their constants makes it see others change.
    """
    return zlib.crc32(Path(file).read_bytes(), zlib.crc32(Path(__file__).read_bytes()))


class Lanes:
    """Arithmetic on vectors of one float type. Methods append instructions and return the result."""

    def __init__(self, context, builder, signature, args, dtype) -> None:
        self.context, self.builder, self.signature, self.args = context, builder, signature, args
        self.scalar = context.get_value_type(dtype)
        self.widest = 512 // bits(self.scalar)

    def vector(self, width: int) -> ir.Type:
        return ir.VectorType(self.scalar, width)

    def place(self, argument: int, index: ir.Value | None = None) -> ir.Value:
        """Address of row ``index`` of an array, or of element ``index`` of a vector.

        Argument number ``argument`` is the array, the next one the index if none is given. Kernels name rows this way
        because a view such as ``x[i]`` costs an atomic reference count, and there the threads wait for one another.
        """
        array = self._array(argument)
        index = self.args[argument + 1] if index is None else index
        for size in cgutils.unpack_tuple(self.builder, array.shape)[1:]:
            index = self.builder.mul(index, size)
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
        value.align = bits(self.scalar) // 8
        return value

    def store(self, value: ir.Value, pointer: ir.Value, offset: ir.Value) -> None:
        address = self.builder.gep(pointer, [offset])
        if isinstance(value.type, ir.VectorType):
            address = self.builder.bitcast(address, value.type.as_pointer())
        self.builder.store(value, address).align = bits(self.scalar) // 8

    def constant(self, value: float, width: int) -> ir.Value:
        return ir.Constant(self.scalar, value) if width == 1 else ir.Constant(self.vector(width), [value] * width)

    def splat(self, value: ir.Value, width: int) -> ir.Value:
        if width == 1:
            return value
        empty = ir.Constant(self.vector(width), ir.Undefined)
        return self.shuffle(self.builder.insert_element(empty, value, I32(0)), empty, [0] * width)

    def shuffle(self, a: ir.Value, b: ir.Value, lanes: Sequence[int]) -> ir.Value:
        return self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, len(lanes)), list(lanes)))

    def mul(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.builder.fmul(a, b, flags=_REASSOCIATE)

    def add(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.builder.fadd(a, b, flags=_REASSOCIATE)

    def larger(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.builder.select(self.builder.fcmp_ordered(">", a, b), a, b)

    def call(self, name: str, *args: ir.Value) -> ir.Value:
        """An LLVM mathematical intrinsic on vectors, such as ``llvm.rint``."""
        kind = args[0].type
        name = f"llvm.{name}.v{kind.count}f{bits(self.scalar)}"
        function_type = ir.FunctionType(kind, [kind] * len(args))
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, function_type, name), args)

    def variable(self, value: ir.Value) -> ir.AllocaInstr:
        """A variable that loops may change; LLVM keeps it in a register."""
        return cgutils.alloca_once_value(self.builder, value)

    def increase(self, variable: ir.AllocaInstr, value: ir.Value) -> None:
        self.builder.store(self.add(self.builder.load(variable), value), variable)

    def loop(self, start: ir.Value, stop: ir.Value, step: ir.Value):
        return cgutils.for_range_slice(self.builder, start, stop, step, intp=I64)

    def spans(self, length: ir.Value, body: Callable[[ir.Value, int], None], vectors: int = 1) -> None:
        """Cover ``range(length)`` by calls ``body(offset, width)``: widest vectors first, single elements last.

        The widest are ``vectors`` vectors long.
        """
        widest = vectors * self.widest
        whole = self.builder.and_(length, I64(-widest))
        with self.loop(I64(0), whole, I64(widest)) as (offset, _):
            body(offset, widest)
        with self.builder.if_then(self.builder.icmp_unsigned("!=", whole, length), likely=False):
            offset, width = whole, widest // 2
            while width * bits(self.scalar) >= 128:
                part = self.builder.and_(length, I64(width))
                with self.builder.if_then(self.builder.icmp_unsigned("!=", part, I64(0))):
                    body(offset, width)
                offset, width = self.builder.add(offset, part), width // 2
            with self.loop(offset, length, I64(1)) as (single, _):
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
        group = 128 // bits(self.scalar)
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
                    single = self.builder.insert_element(single, product, I32(z))
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
        return self.builder.extract_element(value, I32(0))

    def fold(self, value: ir.Value, period: ir.Value, combine: Callable[[ir.Value, ir.Value], ir.Value]) -> ir.Value:
        """Combine the lanes that are equal modulo ``period``, a power of two, and leave the result in each of them."""
        width = value.type.count
        step = width // 2
        while step:
            turned = self.shuffle(value, value, [(lane + step) % width for lane in range(width)])
            both = combine(value, turned)
            value = self.builder.select(self.builder.icmp_unsigned("<=", period, I64(step)), both, value)
            step //= 2
        return value

    def exp(self, x: ir.Value) -> ir.Value:
        """e^x for x <= 0, to a unit in the last place; 0 where it would be below the normal numbers, NaN for NaN.

        x = n ln 2 + r with integer n and |r| <= ln 2 / 2, then the Taylor polynomial in r times 2^n.
        """
        width = x.type.count
        if bits(self.scalar) == 32:
            integer, mantissa, bias, degree, lowest = I32, 23, 127, 7, -86.5
            ln2_high, ln2_low = 0.693145751953125, 1.428606765330187e-06
        else:
            integer, mantissa, bias, degree, lowest = I64, 52, 1023, 13, -707.5
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
        lanes = Lanes(context, builder, signature, args, signature.args[0].dtype)
        first, byte_pointer = lanes.place(0), ir.IntType(8).as_pointer()
        function_type = ir.FunctionType(ir.VoidType(), [byte_pointer, I32, I32, I32])
        function = builder.module.declare_intrinsic("llvm.prefetch", [byte_pointer], function_type)
        with lanes.loop(I64(0), args[2], I64(8 * CACHE_LINE // bits(lanes.scalar))) as (offset, _):
            address = builder.bitcast(lanes.offset(first, offset), byte_pointer)
            builder.call(function, [address, I32(0), I32(_SECOND_LEVEL), I32(1)])
        return context.get_dummy_value()

    return types.void(rows, types.int64, types.int64), generate
