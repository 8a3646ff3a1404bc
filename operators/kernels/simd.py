"""Two loops over a list of weights that keep neighbouring slices in vector registers.

Numba compiles scalar loops and leaves vectors to LLVM's guess, which here tests for overlapping
arrays and starts over at every weight.  These intrinsics write the vector instructions down; LLVM
maps them to what the processor has.  Arrays are one-dimensional and contiguous; nothing is
checked, callers keep indices within bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_UNROLL = 4  # sums that run side by side, to hide the latency of an addition
_CONTRACT = ("contract",)


class _Access:
    """Reads and writes ``width`` neighbours of a contiguous array."""

    def __init__(self, context: Any, builder: Any, kind: Any, value: Any, width: int) -> None:
        self.builder = builder
        self.data = context.make_array(kind)(context, builder, value).data
        self.scalar = context.get_value_type(kind.dtype)
        self.vector = ir.VectorType(self.scalar, width)
        self.align = kind.dtype.bitwidth // 8

    def pointer(self, at: Any) -> Any:
        pointer = self.builder.gep(self.data, [at])
        return self.builder.bitcast(pointer, self.vector.as_pointer())

    def load(self, at: Any) -> Any:
        return self.builder.load(self.pointer(at), align=self.align)

    def store(self, value: Any, at: Any) -> None:
        self.builder.store(value, self.pointer(at), align=self.align)

    def one(self, at: Any) -> Any:
        """Read a single number, an integer as wide as an address."""
        number = self.builder.load(self.builder.gep(self.data, [at]))
        if isinstance(number.type, ir.IntType) and number.type.width < at.type.width:
            return self.builder.sext(number, at.type)
        return number

    def repeated(self, number: Any) -> Any:
        """Put a number into every element of a vector."""
        if number.type != self.scalar:  # weights in single precision, data in double
            number = self.builder.fpext(number, self.scalar)
        i32, undefined = ir.IntType(32), ir.Constant(self.vector, ir.Undefined)
        first = self.builder.insert_element(undefined, number, ir.Constant(i32, 0))
        mask = ir.Constant(ir.VectorType(i32, self.vector.count), [0] * self.vector.count)
        return self.builder.shuffle_vector(first, undefined, mask)


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def gather(
    typing_context: Any,
    target: Any,
    at: Any,
    source: Any,
    offset: Any,
    stride: Any,
    index: Any,
    weight: Any,
    start: Any,
    stop: Any,
    width: Any,
) -> tuple[Any, Callable[..., Any]]:
    """``target[at:][:width] += sum_k weight[k] source[offset + stride * index[k]:][:width]``.

    Over ``start <= k < stop``; ``width`` is a literal.  The sum runs in :data:`_UNROLL` interleaved
    parts.
    """
    n = width.literal_value
    intp = types.intp
    signature = types.void(target, intp, source, intp, intp, index, weight, intp, intp, width)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        put, get, indices, weights = (
            _Access(context, builder, sig.args[k], args[k], n) for k in (0, 2, 5, 6)
        )
        place, shift, step, begin, end = args[1], args[3], args[4], args[7], args[8]

        def add(k: Any, to: Any) -> None:
            where = builder.add(shift, builder.mul(step, indices.one(k)))
            product = builder.fmul(get.repeated(weights.one(k)), get.load(where), flags=_CONTRACT)
            builder.store(builder.fadd(builder.load(to), product, flags=_CONTRACT), to)

        sums = [cgutils.alloca_once(builder, put.vector) for _ in range(_UNROLL)]
        builder.store(put.load(place), sums[0])
        for other in sums[1:]:
            builder.store(ir.Constant(put.vector, None), other)
        total = builder.sub(end, begin)
        unroll = ir.Constant(total.type, _UNROLL)
        rounds = builder.sdiv(total, unroll)
        done = builder.mul(rounds, unroll)
        with cgutils.for_range(builder, rounds) as loop:
            first = builder.add(begin, builder.mul(loop.index, unroll))
            for u, to in enumerate(sums):
                add(builder.add(first, ir.Constant(total.type, u)), to)
        rest = builder.add(begin, done)
        with cgutils.for_range(builder, builder.sub(total, done)) as loop:
            add(builder.add(rest, loop.index), sums[0])
        a, b, c, d = (builder.load(each) for each in sums)
        put.store(builder.fadd(builder.fadd(a, b), builder.fadd(c, d)), place)
        return context.get_dummy_value()

    return signature, generate


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def scatter(
    typing_context: Any,
    target: Any,
    offset: Any,
    stride: Any,
    index: Any,
    weight: Any,
    stop: Any,
    source: Any,
    at: Any,
    width: Any,
) -> tuple[Any, Callable[..., Any]]:
    """``target[offset + stride * index[k]:][:width] += weight[k] source[at:][:width]``.

    Over ``0 <= k < stop``, one after the other; ``width`` is a literal.
    """
    n = width.literal_value
    intp = types.intp
    signature = types.void(target, intp, intp, index, weight, intp, source, intp, width)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        put, indices, weights, get = (
            _Access(context, builder, sig.args[k], args[k], n) for k in (0, 3, 4, 6)
        )
        shift, step, total, place = args[1], args[2], args[5], args[7]
        value = get.load(place)
        with cgutils.for_range(builder, total) as loop:
            where = builder.add(shift, builder.mul(step, indices.one(loop.index)))
            weighted = put.repeated(weights.one(loop.index))
            product = builder.fmul(weighted, value, flags=_CONTRACT)
            put.store(builder.fadd(put.load(where), product, flags=_CONTRACT), where)
        return context.get_dummy_value()

    return signature, generate
