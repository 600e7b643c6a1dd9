"""Sums and products of bytes by the processor's own sums of products: of four bytes (VNNI), or of two numbers of 16 bits (AVX2).

Everything that is written as LLVM instructions for it is in this file.  The plain way to the same
integers is `_integer_sums.product_sums`, and `_integer_sums.integer_sums` chooses between them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import llvmlite.binding as llvm  # type: ignore[import-untyped]
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from workflow.compiling import compiler

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])


class Instruction(NamedTuple):
    """An instruction that multiplies 32-bit words, lane by lane, as several small numbers, and sums their products.

    Attributes
    ----------
    words : str
        What it is called among people.
    features : tuple of str
        Features that a processor must have, as LLVM names them.
    name : str
        LLVM's name of the instruction.
    n_lanes : int
        Words of a register.
    group_rows : int
        Rows that lie side by side in a word: 4 as bytes, 2 as numbers of 16 bits.
    tile_left, tile_right : int
        Features of a tile, whose sums stay in registers until the tile is done.
    """

    words: str
    features: tuple[str, ...]
    name: str
    n_lanes: int
    group_rows: int
    tile_left: int
    tile_right: int


#: Instructions, the fastest first: registers of 512 bits hold 8 x 48 sums, those of 256 bits 4 x 24.
INSTRUCTIONS = (
    Instruction(
        "bytes, AVX-512 VNNI", ("avx512f", "avx512vnni"), "avx512.vpdpbusd.512", 16, 4, 8, 48
    ),
    Instruction("bytes, AVX-VNNI", ("avx2", "avxvnni"), "avx512.vpdpbusd.256", 8, 4, 4, 24),
    Instruction("int16, AVX2", ("avx2",), "avx2.pmadd.wd", 8, 2, 4, 24),
)


def _chosen() -> Instruction | None:
    """Return the fastest instruction of the processor that numba compiles for, if there is one."""
    told = getattr(config, "CPU_FEATURES", None)
    if told is not None or getattr(config, "CPU_NAME", None) is not None:
        # Another processor: what its features are is known only where they are said.
        there = {name[1:] for name in (told or "").split(",") if name.startswith("+")}
    elif getattr(config, "ENABLE_AVX", True):
        there = {name for name, has in llvm.get_host_cpu_features().items() if has}
    else:
        there = set()
    return next((one for one in INSTRUCTIONS if there.issuperset(one.features)), None)


#: What products of bytes are made with; None where this processor has nothing for it.
INSTRUCTION = _chosen()
_HERE = INSTRUCTION or INSTRUCTIONS[-1]
TILE_LEFT, TILE_RIGHT = _HERE.tile_left, _HERE.tile_right
#: Rows of a group, and groups packed at a time: both packings of 768 features then stay in a
#: second-level cache of 1 MiB.
GROUP_ROWS, PACKED_GROUPS = _HERE.group_rows, 128
#: Side of the squares in which a matrix is mirrored.
MIRROR_SIDE = 32
#: Rows after which sums of products of a byte and a signed byte could leave int32.
MAX_INT32_ROWS = (2**31 - 1) // (255 * 128)

_BITS = np.uint32(32 // GROUP_ROWS)
#: What makes the numbers of a word signed: as 128 is taken off, the borrow must not leave the number.
_MASK = np.uint32(2 ** int(_BITS) - 1)
_LANES = _HERE.n_lanes
_INDEX, _WORD = ir.IntType(64), ir.IntType(32)
_SUMS = ir.VectorType(_WORD, _LANES)

compiled = compiler(__file__)
_intrinsic = cast("Callable[[AnyFunction], Any]", intrinsic)


def byte_sums(
    rows: NDArray[np.uint8], shift: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sum shifted rows of bytes and their outer products, exactly, by `INSTRUCTION`.

    One factor of each product is made signed by taking 128 off, which is put
    back from the sums at the end.
    """
    n_samples, n_features = rows.shape
    n_right = -(-n_features // TILE_RIGHT)
    width = n_right * TILE_RIGHT
    left = np.zeros((width // TILE_LEFT, PACKED_GROUPS, TILE_LEFT), np.uint32)
    right = np.zeros((n_right, PACKED_GROUPS, TILE_RIGHT), np.uint32)
    total = np.zeros(width, np.int64)
    second = np.zeros((n_features, n_features), np.int64)
    for start in range(0, n_samples, MAX_INT32_ROWS):
        some = np.ascontiguousarray(rows[start : start + MAX_INT32_ROWS])
        sums, products = np.zeros(width, np.int32), np.zeros((width, width), np.int32)
        add_products(some, left, right, sums, products)
        total += sums
        second += products[:n_features, :n_features]
    total = total[:n_features]
    take_about(second, total, shift, n_samples)
    return total - n_samples * shift, second


@compiled
def take_about(
    second: NDArray[np.int64], total: NDArray[np.int64], shift: NDArray[np.int64], n_samples: int
) -> None:
    """Put 128 back, take the shift off, and fill in what lies left of the diagonal."""
    n_features = total.size
    for i in range(n_features):
        # sum (x - s)(y - t) = sum xy - s sum y - t sum x + n s t
        of_total, of_shift = 128 - shift[i], n_samples * shift[i] - total[i]
        for j in range(i, n_features):
            second[i, j] += of_total * total[j] + of_shift * shift[j]
    # In squares that stay in the cache.
    for first in range(0, n_features, MIRROR_SIDE):
        for begin in range(first, n_features, MIRROR_SIDE):
            for i in range(first, min(first + MIRROR_SIDE, n_features)):
                for j in range(max(begin, i + 1), min(begin + MIRROR_SIDE, n_features)):
                    second[j, i] = second[i, j]


@compiled
def add_products(
    rows: NDArray[np.uint8],
    left: NDArray[np.uint32],
    right: NDArray[np.uint32],
    sums: NDArray[np.int32],
    products: NDArray[np.int32],
) -> None:
    """Add up rows, and products of all features with those from their own tile on."""
    n_rows, n_features = rows.shape
    last = np.zeros((GROUP_ROWS, n_features), np.uint8)
    n_whole = n_rows // GROUP_ROWS
    n_groups = -(-n_rows // GROUP_ROWS)
    for row in range(n_whole * GROUP_ROWS, n_rows):
        for i in range(n_features):
            last[row - n_whole * GROUP_ROWS, i] = rows[row, i]
    for first in range(0, n_groups, PACKED_GROUPS):
        n_packed = min(PACKED_GROUPS, n_groups - first)
        for place in range(n_packed):
            row = (first + place) * GROUP_ROWS
            if first + place < n_whole:
                _pack(rows[row : row + GROUP_ROWS], place, left, right, sums)
            else:
                _pack(last, place, left, right, sums)
        for column in range(right.shape[0]):
            for row in range((column + 1) * (TILE_RIGHT // TILE_LEFT)):
                _add_tile(left, right, products, row, column, n_packed)


@compiled
def _pack(
    group: NDArray[np.uint8],
    place: int,
    left: NDArray[np.uint32],
    right: NDArray[np.uint32],
    sums: NDArray[np.int32],
) -> None:
    """Put a few rows side by side, feature by feature, in the order of the tiles."""
    n_features = group.shape[1]
    for tile in range(right.shape[0]):
        start = tile * TILE_RIGHT
        packed = right[tile, place]
        for i in range(min(TILE_RIGHT, n_features - start)):
            word, total = np.uint32(0), np.int32(0)
            for row in range(GROUP_ROWS):
                value = np.uint32(group[row, start + i])
                word |= value << (np.uint32(row) * _BITS)
                total += np.int32(value)
            packed[i] = word
            sums[start + i] += total
        for part in range(TILE_RIGHT // TILE_LEFT):
            signed = left[tile * (TILE_RIGHT // TILE_LEFT) + part, place]
            for i in range(TILE_LEFT):
                word = packed[part * TILE_LEFT + i]
                turned = np.uint32(0)
                for row in range(GROUP_ROWS):
                    shift = np.uint32(row) * _BITS
                    turned |= (((word >> shift) - np.uint32(128)) & _MASK) << shift
                signed[i] = turned


@_intrinsic
def _add_tile(
    typing_context: Any,
    left: Any,
    right: Any,
    products: Any,
    row: Any,
    column: Any,
    n_groups: Any,
) -> Any:
    """Add the products of a tile of `TILE_LEFT` features and one of `TILE_RIGHT` over packed groups of rows."""
    signature = types.void(left, right, products, types.intp, types.intp, types.intp)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        arrays = [
            context.make_array(kind)(context, builder, value)
            for kind, value in zip(signature.args[:3], values[:3], strict=True)
        ]
        row, column, n_groups = values[3:]
        _Tile(builder, arrays, row, column).write(n_groups)
        return context.get_dummy_value()

    return signature, generate


class _Tile:
    """Writes the code of one tile."""

    def __init__(self, builder: Any, arrays: list[Any], row: Any, column: Any) -> None:
        self.builder, self.row, self.column = builder, row, column
        left, right, products = arrays
        self.left = self._start_of(left, row, PACKED_GROUPS * TILE_LEFT)
        self.right = self._start_of(right, column, PACKED_GROUPS * TILE_RIGHT)
        self.products = products.data
        self.width = cgutils.unpack_tuple(builder, products.shape, 2)[1]
        pairs = ir.VectorType(ir.IntType(16), 2 * _LANES)
        is_added = GROUP_ROWS == 4
        of_words = ir.FunctionType(_SUMS, [_SUMS] * 3 if is_added else [pairs] * 2)
        self.pairs = None if is_added else pairs
        self.instruction = cgutils.get_or_insert_function(
            builder.module, of_words, f"llvm.x86.{_HERE.name}"
        )

    def write(self, n_groups: Any) -> None:
        """Loop over the groups, then add what was summed to the products."""
        builder = self.builder
        before = builder.block
        loop, after = builder.append_basic_block("groups"), builder.append_basic_block("tile_done")
        builder.branch(loop)
        builder.position_at_end(loop)
        group = builder.phi(_INDEX)
        group.add_incoming(ir.Constant(_INDEX, 0), before)
        n_parts = TILE_RIGHT // _LANES
        sums = [[builder.phi(_SUMS) for _ in range(n_parts)] for _ in range(TILE_LEFT)]
        new = self._with_group(group, sums)
        following = builder.add(group, ir.Constant(_INDEX, 1))
        group.add_incoming(following, loop)
        for row_sums, row_new in zip(sums, new, strict=True):
            for lanes, lanes_new in zip(row_sums, row_new, strict=True):
                lanes.add_incoming(ir.Constant(_SUMS, [0] * _LANES), before)
                lanes.add_incoming(lanes_new, loop)
        builder.cbranch(builder.icmp_signed("<", following, n_groups), loop, after)
        builder.position_at_end(after)
        self._add_to_products(new)

    def _with_group(self, group: Any, sums: list[list[Any]]) -> list[list[Any]]:
        """Return the sums with the products of one more group of rows."""
        builder = self.builder
        start = builder.mul(group, ir.Constant(_INDEX, TILE_RIGHT))
        columns = [
            self._lanes(self.right, builder.add(start, ir.Constant(_INDEX, part * _LANES)))
            for part in range(TILE_RIGHT // _LANES)
        ]
        start = builder.mul(group, ir.Constant(_INDEX, TILE_LEFT))
        new = []
        for i, row_sums in enumerate(sums):
            place = builder.gep(self.left, [builder.add(start, ir.Constant(_INDEX, i))])
            same = self._spread(builder.load(place))
            new.append(
                [
                    self._sums_with(lanes, column, same)
                    for lanes, column in zip(row_sums, columns, strict=True)
                ]
            )
        return new

    def _sums_with(self, sums: Any, column: Any, same: Any) -> Any:
        """Return the sums with the products of two registers of words."""
        builder = self.builder
        if self.pairs is None:
            return builder.call(self.instruction, [sums, column, same])
        factors = [builder.bitcast(words, self.pairs) for words in (column, same)]
        return builder.add(sums, builder.call(self.instruction, factors))

    def _add_to_products(self, sums: list[list[Any]]) -> None:
        """Add the sums of the tile to the products where they belong."""
        builder = self.builder
        first_row = builder.mul(self.row, ir.Constant(_INDEX, TILE_LEFT))
        first_column = builder.mul(self.column, ir.Constant(_INDEX, TILE_RIGHT))
        for i, row_sums in enumerate(sums):
            row = builder.mul(builder.add(first_row, ir.Constant(_INDEX, i)), self.width)
            for part, lanes in enumerate(row_sums):
                column = builder.add(first_column, ir.Constant(_INDEX, part * _LANES))
                place = builder.add(row, column)
                added = builder.add(self._lanes(self.products, place), lanes)
                builder.store(added, self._place(self.products, place)).align = 4

    def _start_of(self, array: Any, tile: Any, n_words: int) -> Any:
        """Return the address of a packed tile."""
        offset = self.builder.mul(tile, ir.Constant(_INDEX, n_words))
        return self.builder.gep(array.data, [offset])

    def _place(self, data: Any, index: Any) -> Any:
        """Return the address of neighbouring numbers."""
        return self.builder.bitcast(self.builder.gep(data, [index]), _SUMS.as_pointer())

    def _lanes(self, data: Any, index: Any) -> Any:
        """Load neighbouring numbers, aligned or not."""
        loaded = self.builder.load(self._place(data, index))
        loaded.align = 4
        return loaded

    def _spread(self, word: Any) -> Any:
        """Return one word in all lanes."""
        undefined = ir.Constant(_SUMS, ir.Undefined)
        first = self.builder.insert_element(undefined, word, ir.Constant(_WORD, 0))
        return self.builder.shuffle_vector(first, undefined, ir.Constant(_SUMS, [0] * _LANES))
