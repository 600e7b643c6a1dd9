"""Code of one tile of a product, written for the registers: four rows times 64 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

if TYPE_CHECKING:
    from collections.abc import Callable

    AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])

#: Rows and columns of a tile: its sums stay in registers until the tile is done.
TILE_ROWS, TILE_COLUMNS = 4, 64

_INDEX, _FLOAT = ir.IntType(64), ir.FloatType()
_LANES = 16
_VECTOR = ir.VectorType(_FLOAT, _LANES)
_LANE_INDEX = ir.IntType(32)

_intrinsic = cast("Callable[[AnyFunction], Any]", intrinsic)


@_intrinsic
def tile_product(
    typing_context: Any,
    rows: Any,
    panels: Any,
    at: Any,
    panel: Any,
    start: Any,
    stop: Any,
    out: Any,
) -> Any:
    """Multiply a few features of four rows with those of a panel.

    Parameters
    ----------
    typing_context : numba typing context
        Given by numba; callers leave it out.
    rows : float32 array of shape (n_rows, n_features)
        Rows.
    panels : float32 array of shape (n_panels, n_features, 64)
        Columns of the other matrix, 64 together.
    at : tuple of four int
        Rows of the tile.
    panel : int
        Panel of the tile.
    start, stop : int
        First feature, and the one after the last.
    out : float32 array of shape (4, 64)
        Sums of the products, written.

    Notes
    -----
    Each sum is begun with zero and takes one feature after the other, product
    and sum rounded once (a fused multiply-add): the same bits for a row
    wherever it stands, on every processor.
    """
    signature = types.void(rows, panels, at, types.intp, types.intp, types.intp, out)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kinds = signature.args

        def address(place: int) -> tuple[Any, list[Any]]:
            array = context.make_array(kinds[place])(context, builder, values[place])
            return array.data, cgutils.unpack_tuple(builder, array.shape, kinds[place].ndim)

        def vector_at(data: Any, index: Any) -> Any:
            return builder.bitcast(builder.gep(data, [index]), _VECTOR.as_pointer())

        (row_data, row_shape), (panel_data, panel_shape) = address(0), address(1)
        out_data, _ = address(6)
        panel, start, stop = values[3:6]
        width = ir.Constant(_INDEX, TILE_COLUMNS)
        row_starts = [
            builder.mul(row, row_shape[1]) for row in cgutils.unpack_tuple(builder, values[2])
        ]
        panel_start = builder.mul(panel, builder.mul(panel_shape[1], width))
        fused = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(_VECTOR, [_VECTOR] * 3), f"llvm.fma.v{_LANES}f32"
        )
        empty = ir.Constant(_VECTOR, ir.Undefined)
        lanes = ir.Constant(ir.VectorType(_LANE_INDEX, _LANES), [0] * _LANES)

        before = builder.block
        head, body, after = (builder.append_basic_block(name) for name in ("head", "body", "after"))
        builder.branch(head)
        builder.position_at_end(head)
        feature = builder.phi(_INDEX)
        feature.add_incoming(start, before)
        zero = ir.Constant(_VECTOR, [0.0] * _LANES)
        sums = [[builder.phi(_VECTOR) for _ in range(0, TILE_COLUMNS, _LANES)] for _ in row_starts]
        for of_row in sums:
            for phi in of_row:
                phi.add_incoming(zero, before)
        builder.cbranch(builder.icmp_signed("<", feature, stop), body, after)

        builder.position_at_end(body)
        line = builder.add(panel_start, builder.mul(feature, width))
        columns = []
        for first in range(0, TILE_COLUMNS, _LANES):
            place = builder.add(line, ir.Constant(_INDEX, first))
            loaded = builder.load(vector_at(panel_data, place))
            loaded.align = 4
            columns.append(loaded)
        for row_start, of_row in zip(row_starts, sums, strict=True):
            value = builder.load(builder.gep(row_data, [builder.add(row_start, feature)]))
            one = builder.insert_element(empty, value, ir.Constant(_LANE_INDEX, 0))
            spread = builder.shuffle_vector(one, empty, lanes)
            for phi, column in zip(of_row, columns, strict=True):
                phi.add_incoming(builder.call(fused, [spread, column, phi]), body)
        feature.add_incoming(builder.add(feature, ir.Constant(_INDEX, 1)), body)
        builder.branch(head)

        builder.position_at_end(after)
        for row, of_row in enumerate(sums):
            for part, phi in enumerate(of_row):
                place = ir.Constant(_INDEX, row * TILE_COLUMNS + part * _LANES)
                builder.store(phi, vector_at(out_data, place)).align = 4
        return context.get_dummy_value()

    return signature, generate


@_intrinsic
def fused_multiply_add(typing_context: Any, left: Any, right: Any, total: Any) -> Any:
    """Return ``left * right + total`` of three float32 numbers, rounded once."""
    signature = types.float32(types.float32, types.float32, types.float32)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = ir.FunctionType(_FLOAT, [_FLOAT] * 3)
        fused = cgutils.get_or_insert_function(builder.module, kind, "llvm.fma.f32")
        return builder.call(fused, values)

    return signature, generate
