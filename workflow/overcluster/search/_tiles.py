"""Code of one tile, written for the registers, and the plain way to the same numbers beside it.

Two functions are written as LLVM instructions: `tile_scores` keeps all scores of a tile in
registers of 16 lanes, `sq_distance_of` adds in one order on every processor.  LLVM has vectors
everywhere, so no instruction can be missing, but the code counts in 64 bits; where numba does
not, the plain functions of the same arguments take over.  With them a search takes 7 to 8 times as
long and finds the same.
"""

from __future__ import annotations

import sys
from functools import reduce
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from workflow.compiling import compiler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])

#: Rows and centroids of a tile: its scores stay in registers until the tile is done.
TILE_ROWS, PANEL_CENTROIDS = 4, 32
#: Score of places without centroid.
NO_CENTROID = 1e30
#: Stages after which a tile may be given up; the last has all features.
N_STAGES = 3

_INDEX, _LANE_INDEX = ir.IntType(64), ir.IntType(32)
_FLOAT, _DOUBLE = ir.FloatType(), ir.DoubleType()
_LANES = 16
_SCORES = ir.VectorType(_FLOAT, _LANES)
_SUM_LANES = 8

compiled = compiler(__file__)
_intrinsic = cast("Callable[[AnyFunction], Any]", intrinsic)


class Tile(NamedTuple):
    """One to four rows and the panel of centroids that they are scored against.

    Attributes
    ----------
    start, stop : int
        Where the rows stand in an array of indices of rows, which comes along.
    panel : int
        Index of the panel.
    """

    start: int
    stop: int
    panel: int


class _Array:
    """Address and shape of an array argument while code is generated."""

    def __init__(self, context: Any, builder: Any, kind: Any, value: Any) -> None:
        array = context.make_array(kind)(context, builder, value)
        self.builder = builder
        self.data = array.data
        self.shape = cgutils.unpack_tuple(builder, array.shape, kind.ndim)
        self.is_double = kind.dtype == types.float64

    def load(self, index: Any) -> Any:
        """Load one number."""
        return self.builder.load(self.builder.gep(self.data, [index]))

    def load_lanes(self, index: Any, kind: ir.VectorType) -> Any:
        """Load neighbouring numbers, aligned or not."""
        place = self.builder.gep(self.data, [index])
        loaded = self.builder.load(self.builder.bitcast(place, kind.as_pointer()))
        loaded.align = 4
        return loaded

    def load_double(self, index: Any) -> Any:
        """Load one number as float64."""
        one = self.load(index)
        return one if self.is_double else self.builder.fpext(one, _DOUBLE)

    def load_doubles(self, index: Any) -> Any:
        """Load eight numbers as float64."""
        wide = ir.VectorType(_DOUBLE, _SUM_LANES)
        if self.is_double:
            return self.load_lanes(index, wide)
        return self.builder.fpext(self.load_lanes(index, ir.VectorType(_FLOAT, _SUM_LANES)), wide)


class _Tile:
    """Writes the code of one tile: scores of four rows and a panel, stage by stage."""

    def __init__(
        self, builder: Any, x: _Array, factors: _Array, rows: list[Any], panel: Any
    ) -> None:
        self.builder, self.x, self.factors = builder, x, factors
        self.row_starts = [builder.mul(row, x.shape[1]) for row in rows]
        width = ir.Constant(_INDEX, PANEL_CENTROIDS)
        self.panel_start = builder.mul(panel, builder.mul(factors.shape[1], width))
        signature = ir.FunctionType(_SCORES, [_SCORES] * 3)
        # Fused or not: the error taken off the scores covers both.
        self.multiply_add = cgutils.get_or_insert_function(
            builder.module, signature, f"llvm.fmuladd.v{_LANES}f32"
        )
        first = self.panel_lines(ir.Constant(_INDEX, N_STAGES - 1))
        self.scores = [list(first) for _ in range(TILE_ROWS)]

    def spread(self, value: Any) -> Any:
        """Return one number in all lanes."""
        empty = ir.Constant(_SCORES, ir.Undefined)
        one = self.builder.insert_element(empty, value, ir.Constant(_LANE_INDEX, 0))
        zeros = ir.Constant(ir.VectorType(_LANE_INDEX, _LANES), [0] * _LANES)
        return self.builder.shuffle_vector(one, empty, zeros)

    def panel_lines(self, line: Any) -> list[Any]:
        """Load one line of the panel."""
        width = ir.Constant(_INDEX, PANEL_CENTROIDS)
        start = self.builder.add(self.panel_start, self.builder.mul(line, width))
        return [
            self.factors.load_lanes(self.builder.add(start, ir.Constant(_INDEX, lane)), _SCORES)
            for lane in range(0, PANEL_CENTROIDS, _LANES)
        ]

    def added(self, column: Any, line: Any, scores: list[list[Any]]) -> list[list[Any]]:
        """Return the scores with one column of the rows times one line of the panel added."""
        lines = self.panel_lines(line)
        out = []
        for start, row_scores in zip(self.row_starts, scores, strict=True):
            value = self.spread(self.x.load(self.builder.add(start, column)))
            pairs = zip(lines, row_scores, strict=True)
            out.append([self.builder.call(self.multiply_add, [value, c, s]) for c, s in pairs])
        return out

    def add_features(self, start: Any, stop: Any) -> None:
        """Add features from ``start`` up to ``stop`` to the scores, in a loop."""
        builder = self.builder
        before = builder.block
        head, body, after = (builder.append_basic_block(name) for name in ("head", "body", "after"))
        builder.branch(head)
        builder.position_at_end(head)
        feature = builder.phi(_INDEX)
        feature.add_incoming(start, before)
        carried = [[builder.phi(_SCORES) for _ in row] for row in self.scores]
        builder.cbranch(builder.icmp_signed("<", feature, stop), body, after)
        builder.position_at_end(body)
        column = builder.add(feature, ir.Constant(_INDEX, N_STAGES - 1))
        line = builder.add(feature, ir.Constant(_INDEX, N_STAGES))
        new = self.added(column, line, carried)
        feature.add_incoming(builder.add(feature, ir.Constant(_INDEX, 1)), body)
        for phis, old, later in zip(carried, self.scores, new, strict=True):
            for phi, first, second in zip(phis, old, later, strict=True):
                phi.add_incoming(first, before)
                phi.add_incoming(second, body)
        builder.branch(head)
        builder.position_at_end(after)
        self.scores = carried

    def is_near(self, limits: list[Any], stage: int) -> Any:
        """Return whether any score of the tile, its tail bounded, is within its row's limit."""
        place = ir.Constant(_INDEX, stage)
        lanes = self.near_lanes(limits, self.added(place, place, self.scores))
        return self.is_any(reduce(self.builder.or_, lanes))

    def near_rows(self, limits: list[Any]) -> Any:
        """Return the rows with a score within their limit, a bit each."""
        builder, bits = self.builder, ir.Constant(_INDEX, 0)
        for row, lanes in enumerate(self.near_lanes(limits, self.scores)):
            bit = builder.zext(self.is_any(lanes), _INDEX)
            bits = builder.or_(bits, builder.shl(bit, ir.Constant(_INDEX, row)))
        return bits

    def near_lanes(self, limits: list[Any], scores: list[list[Any]]) -> Iterator[Any]:
        """Yield, of each row, the lanes in which any score is within its limit."""
        for limit, row_scores in zip(limits, scores, strict=True):
            near = [self.builder.fcmp_ordered("<=", score, limit) for score in row_scores]
            yield reduce(self.builder.or_, near)

    def is_any(self, lanes: Any) -> Any:
        """Return whether any lane is true."""
        bits = self.builder.bitcast(lanes, ir.IntType(_LANES))
        return self.builder.icmp_unsigned("!=", bits, ir.Constant(ir.IntType(_LANES), 0))


@_intrinsic
def _written_tile_scores(
    typing_context: Any,
    x: Any,
    factors: Any,
    limits: Any,
    scores: Any,
    rows: Any,
    tile: Any,
    stops: Any,
) -> Any:
    """Write the code of `plain_tile_scores`; products and sums are fused where that is one step."""
    signature = types.int64(x, factors, limits, scores, rows, tile, stops)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        arrays = {
            name: _Array(context, builder, signature.args[i], values[i])
            for i, name in enumerate(("x", "factors", "limits", "scores", "rows"))
        }
        start, stop, panel = cgutils.unpack_tuple(builder, values[5])
        last = builder.sub(stop, ir.Constant(_INDEX, 1))
        places = [builder.add(start, ir.Constant(_INDEX, i)) for i in range(TILE_ROWS)]
        chosen = [
            arrays["rows"].load(builder.select(builder.icmp_signed("<", place, last), place, last))
            for place in places
        ]
        code = _Tile(builder, arrays["x"], arrays["factors"], chosen, panel)
        row_limits = [code.spread(arrays["limits"].load(row)) for row in chosen]
        feature_stops = _Array(context, builder, signature.args[6], values[6])
        done = builder.append_basic_block("done")
        exits = []
        feature = ir.Constant(_INDEX, 0)
        for stage in range(N_STAGES):
            feature_stop = feature_stops.load(ir.Constant(_INDEX, stage))
            code.add_features(feature, feature_stop)
            if stage < N_STAGES - 1:
                near = code.is_near(row_limits, stage)
            else:
                near_rows = code.near_rows(row_limits)
                near = builder.icmp_unsigned("!=", near_rows, ir.Constant(_INDEX, 0))
            following = builder.append_basic_block("following")
            exits.append(builder.block)
            builder.cbranch(near, following, done)
            builder.position_at_end(following)
            feature = feature_stop
        for row, row_scores in enumerate(code.scores):
            for part, score in enumerate(row_scores):
                place = ir.Constant(_INDEX, row * PANEL_CENTROIDS + part * _LANES)
                place = builder.gep(arrays["scores"].data, [place])
                builder.store(score, builder.bitcast(place, _SCORES.as_pointer())).align = 4
        last = builder.block
        builder.branch(done)
        builder.position_at_end(done)
        answer = builder.phi(_INDEX)
        for block in exits:
            answer.add_incoming(ir.Constant(_INDEX, 0), block)
        answer.add_incoming(near_rows, last)
        return answer

    return signature, generate


@compiled
def plain_tile_scores(
    x: NDArray[np.float32],
    factors: NDArray[np.float32],
    limits: NDArray[np.float32],
    scores: NDArray[np.float32],
    rows: NDArray[np.int64],
    tile: Tile,
    stops: NDArray[np.int64],
) -> int | np.int64:
    """Score the rows of a tile against its panel; return which are near one, stop early if none is.

    Parameters
    ----------
    x : float32 array of shape (n_rows, 2 + n_features)
        Norms of the features behind each stage but the last; the features.
    factors : float32 array of shape (n_panels, 2 + 1 + n_features, 32)
        Panels of centroids: what those norms are multiplied by, what a score
        begins with, what the features are multiplied by.
    limits : float32 array of shape (n_rows,)
        Scores up to which a centroid is near to a row.
    scores : float32 array of shape (4, 32)
        Written only where a row is near: the scores of all features; the last
        row again in place of missing ones.
    rows : int64 array of shape (n,)
        Indices of rows, some of which are those of the tile.
    tile : Tile
        Which of them, and the panel.
    stops : int64 array of shape (3,)
        Features after which each stage ends.

    Returns
    -------
    int
        A bit for each row, the lowest for the first: whether a centroid of
        the panel is near to it.
    """
    sums = np.empty((TILE_ROWS, PANEL_CENTROIDS), np.float32)
    sums[:] = factors[tile.panel, N_STAGES - 1]
    start = 0
    for stage in range(N_STAGES):
        near = np.int64(0)
        for i in range(TILE_ROWS):
            row = rows[min(tile.start + i, tile.stop - 1)]
            for feature in range(start, stops[stage]):
                value = x[row, N_STAGES - 1 + feature]
                for lane in range(PANEL_CENTROIDS):
                    sums[i, lane] += value * factors[tile.panel, N_STAGES + feature, lane]
            for lane in range(PANEL_CENTROIDS):
                score = sums[i, lane]
                if stage < N_STAGES - 1:
                    score += x[row, stage] * factors[tile.panel, stage, lane]
                near |= np.int64(score <= limits[row]) << i
        if near == 0:
            return near
        start = stops[stage]
    scores[:] = sums
    return near


@_intrinsic
def _written_sq_distance_of(
    typing_context: Any, rows: Any, row: Any, others: Any, other: Any
) -> Any:
    """Write the code of `plain_sq_distance_of`."""
    signature = types.float64(rows, types.intp, others, types.intp)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kinds = signature.args
        left, right = (_Array(context, builder, kinds[i], values[i]) for i in (0, 2))
        n_features = left.shape[1]
        starts = [builder.mul(values[i], n_features) for i in (1, 3)]
        whole = builder.and_(n_features, ir.Constant(_INDEX, -_SUM_LANES))

        def squares(load: str, feature: Any) -> Any:
            one, two = (builder.add(start, feature) for start in starts)
            difference = builder.fsub(getattr(left, load)(one), getattr(right, load)(two))
            return builder.fmul(difference, difference)

        def add_up(load: str, first: Any, span: tuple[Any, Any], step: int) -> Any:
            before = builder.block
            head, body, after = (builder.append_basic_block() for _ in range(3))
            builder.branch(head)
            builder.position_at_end(head)
            feature, total = builder.phi(_INDEX), builder.phi(first.type)
            feature.add_incoming(span[0], before)
            total.add_incoming(first, before)
            builder.cbranch(builder.icmp_signed("<", feature, span[1]), body, after)
            builder.position_at_end(body)
            total.add_incoming(builder.fadd(total, squares(load, feature)), body)
            feature.add_incoming(builder.add(feature, ir.Constant(_INDEX, step)), body)
            builder.branch(head)
            builder.position_at_end(after)
            return total

        zeros = ir.Constant(ir.VectorType(_DOUBLE, _SUM_LANES), [0.0] * _SUM_LANES)
        sums = add_up("load_doubles", zeros, (ir.Constant(_INDEX, 0), whole), _SUM_LANES)
        parts = [
            builder.extract_element(sums, ir.Constant(_LANE_INDEX, i)) for i in range(_SUM_LANES)
        ]
        while len(parts) > 1:
            half = len(parts) // 2
            parts = [builder.fadd(parts[i], parts[i + half]) for i in range(half)]
        return add_up("load_double", parts[0], (whole, n_features), 1)

    return signature, generate


@compiled
def plain_sq_distance_of(rows: NDArray[Any], row: int, others: NDArray[Any], other: int) -> float:
    """Return the squared distance of two vectors in float64, added up in one order everywhere.

    Parameters
    ----------
    rows : float array of shape (n_rows, n_features)
        Where the one vector stands; C-contiguous.
    row : int
        Its place there.
    others : float array of shape (n_others, n_features)
        Where the other vector stands; C-contiguous.
    other : int
        Its place there.

    Returns
    -------
    float
        Squared distance.

    Notes
    -----
    Eight sums run side by side, then meet pairwise; what is left over is added
    one by one.  No product is fused with a sum.
    """
    n_features = rows.shape[1]
    whole = n_features - n_features % _SUM_LANES
    sums = np.zeros(_SUM_LANES)
    for feature in range(whole):
        difference = np.float64(rows[row, feature]) - np.float64(others[other, feature])
        sums[feature % _SUM_LANES] += difference * difference
    n_sums = _SUM_LANES
    while n_sums > 1:
        n_sums //= 2
        for i in range(n_sums):
            sums[i] += sums[i + n_sums]
    total: float = sums[0]
    for feature in range(whole, n_features):
        difference = np.float64(rows[row, feature]) - np.float64(others[other, feature])
        total += difference * difference
    return total


_IS_64_BIT = sys.maxsize > 2**32
#: What the search calls; see `plain_tile_scores` and `plain_sq_distance_of`.
tile_scores = _written_tile_scores if _IS_64_BIT else plain_tile_scores
sq_distance_of = _written_sq_distance_of if _IS_64_BIT else plain_sq_distance_of
