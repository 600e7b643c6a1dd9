"""Squared distances of four rows and the 32 places of a leaf, written for the registers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

if TYPE_CHECKING:
    from collections.abc import Callable

    AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])

#: Rows of a tile, and places of a leaf.
TILE_ROWS, LEAF_ROWS = 4, 32
#: Features after which a tile may be given up.
STAGE_FEATURES = 8

_INDEX, _FLOAT, _INT = ir.IntType(64), ir.FloatType(), ir.IntType(32)
_LANES = 16
_VECTOR = ir.VectorType(_FLOAT, _LANES)
_HALVES = range(0, LEAF_ROWS, _LANES)

_intrinsic = cast("Callable[[AnyFunction], Any]", intrinsic)


@_intrinsic
def tile_sq_distances(
    typing_context: Any,
    rows: Any,
    panels: Any,
    at: Any,
    panel: Any,
    limits: Any,
    out: Any,
    near: Any,
) -> Any:
    """Compute squared distances by direct difference, until all are above their limits.

    Parameters
    ----------
    typing_context : numba typing context
        Given by numba; callers leave it out.
    rows : float32 array of shape (n_rows, n_features)
        Rows.
    panels : float32 array of shape (n_leaves, n_features, 32)
        Leaves; features first, so that 32 rows lie side by side.
    at : tuple of four int
        Rows of the tile.
    panel : int
        Leaf of the tile.
    limits : tuple of four float32
        Squared distance up to which a place is near, for each row.
    out : float32 array of shape (4, 32)
        Squared distances, written where True is returned.
    near : uint32 array of shape (4,)
        A bit for each place that is near, written where True is returned.

    Returns
    -------
    bool
        Whether any place is near; False may come before all features are seen.

    Notes
    -----
    A sum begins with zero and takes one feature after the other, square and
    sum rounded once (a fused multiply-add).  So it depends on the two vectors
    alone, is the same in both directions and on every processor, and never
    falls from one feature to the next: a tile that is given up holds nothing
    near.
    """
    signature = types.boolean(rows, panels, at, types.intp, limits, out, near)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        def array(place: int) -> tuple[Any, list[Any]]:
            kind = signature.args[place]
            found = context.make_array(kind)(context, builder, values[place])
            return found.data, cgutils.unpack_tuple(builder, found.shape, kind.ndim)

        def spread(value: Any) -> Any:
            one = builder.insert_element(empty, value, ir.Constant(_INT, 0))
            return builder.shuffle_vector(one, empty, lanes)

        def phis(kind: Any, came_from: Any, first: Any) -> list[list[Any]]:
            made = [[builder.phi(kind) for _ in _HALVES] for _ in range(TILE_ROWS)]
            for of_row, firsts in zip(made, first, strict=True):
                for phi, value in zip(of_row, firsts, strict=True):
                    phi.add_incoming(value, came_from)
            return made

        def close(made: list[list[Any]], new: list[list[Any]], block: Any) -> None:
            for of_row, values_of_row in zip(made, new, strict=True):
                for phi, value in zip(of_row, values_of_row, strict=True):
                    phi.add_incoming(value, block)

        empty = ir.Constant(_VECTOR, ir.Undefined)
        lanes = ir.Constant(ir.VectorType(_INT, _LANES), [0] * _LANES)
        (row_data, row_shape), (panel_data, panel_shape) = array(0), array(1)
        (out_data, _), (near_data, _) = array(5), array(6)
        n_features, width = row_shape[1], ir.Constant(_INDEX, LEAF_ROWS)
        row_starts = [
            builder.mul(row, n_features) for row in cgutils.unpack_tuple(builder, values[2])
        ]
        bounds = [spread(limit) for limit in cgutils.unpack_tuple(builder, values[4])]
        panel_start = builder.mul(values[3], builder.mul(panel_shape[1], width))
        fused = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(_VECTOR, [_VECTOR] * 3), f"llvm.fma.v{_LANES}f32"
        )
        zero = ir.Constant(_VECTOR, [0.0] * _LANES)

        before = builder.block
        stage, head, body, check, done = (
            builder.append_basic_block(name) for name in ("stage", "head", "body", "check", "done")
        )
        builder.branch(stage)
        builder.position_at_end(stage)
        start = builder.phi(_INDEX)
        start.add_incoming(ir.Constant(_INDEX, 0), before)
        carried = phis(_VECTOR, before, [[zero] * len(_HALVES)] * TILE_ROWS)
        end = builder.add(start, ir.Constant(_INDEX, STAGE_FEATURES))
        stop = builder.select(builder.icmp_signed("<", end, n_features), end, n_features)
        builder.branch(head)

        builder.position_at_end(head)
        feature = builder.phi(_INDEX)
        feature.add_incoming(start, stage)
        sums = phis(_VECTOR, stage, carried)
        builder.cbranch(builder.icmp_signed("<", feature, stop), body, check)

        builder.position_at_end(body)
        line = builder.add(panel_start, builder.mul(feature, width))
        columns = []
        for first in _HALVES:
            place = builder.gep(panel_data, [builder.add(line, ir.Constant(_INDEX, first))])
            loaded = builder.load(builder.bitcast(place, _VECTOR.as_pointer()))
            loaded.align = 4
            columns.append(loaded)
        later = []
        for row_start, of_row in zip(row_starts, sums, strict=True):
            value = spread(builder.load(builder.gep(row_data, [builder.add(row_start, feature)])))
            differences = [builder.fsub(value, column) for column in columns]
            pairs = zip(differences, of_row, strict=True)
            later.append([builder.call(fused, [gap, gap, total]) for gap, total in pairs])
        feature.add_incoming(builder.add(feature, ir.Constant(_INDEX, 1)), body)
        close(sums, later, body)
        builder.branch(head)

        builder.position_at_end(check)
        masks = [
            [builder.fcmp_ordered("<=", total, bound) for total in of_row]
            for of_row, bound in zip(sums, bounds, strict=True)
        ]
        any_near = masks[0][0]
        for mask in [mask for of_row in masks for mask in of_row][1:]:
            any_near = builder.or_(any_near, mask)
        bits = builder.bitcast(any_near, ir.IntType(_LANES))
        is_near = builder.icmp_unsigned("!=", bits, ir.Constant(ir.IntType(_LANES), 0))
        following, last = (builder.append_basic_block(name) for name in ("following", "last"))
        builder.cbranch(is_near, following, done)

        builder.position_at_end(following)
        start.add_incoming(stop, following)
        close(carried, sums, following)
        builder.cbranch(builder.icmp_signed("<", stop, n_features), stage, last)

        builder.position_at_end(last)
        for row, (of_row, of_masks) in enumerate(zip(sums, masks, strict=True)):
            word = ir.Constant(_INT, 0)
            for first, total, mask in zip(_HALVES, of_row, of_masks, strict=True):
                place = builder.gep(out_data, [ir.Constant(_INDEX, row * LEAF_ROWS + first)])
                builder.store(total, builder.bitcast(place, _VECTOR.as_pointer())).align = 4
                part = builder.zext(builder.bitcast(mask, ir.IntType(_LANES)), _INT)
                word = builder.or_(word, builder.shl(part, ir.Constant(_INT, first)))
            builder.store(word, builder.gep(near_data, [ir.Constant(_INDEX, row)]))
        builder.branch(done)

        builder.position_at_end(done)
        answer = builder.phi(ir.IntType(1))
        answer.add_incoming(ir.Constant(ir.IntType(1), 0), check)
        answer.add_incoming(ir.Constant(ir.IntType(1), 1), last)
        return answer

    return signature, generate
