"""report --columns: a user's table colours the map, in the run as in the table, and stays."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.commands.conftest import N_PHOTOS, photo_name
from tests.conftest import last_json
from tests.runs.helpers import copy_of
from workflow import Run
from workflow.commands.export import columns as command
from workflow.commands.export.columns import columns
from workflow.errors import ConfigError
from workflow.report import ColumnData
from workflow.runstore import RunStore
from workflow.steps.browsing import own_columns
from workflow.steps.browsing.own_columns import columns_at, kept_columns

ALL = np.arange(N_PHOTOS)


@pytest.fixture
def copied(photo_run, tmp_path):
    return copy_of(photo_run, tmp_path / "run")


def table_of(rows, key):
    """Return a table of words, numbers and few whole numbers; some are missing."""
    site = pd.array([f"s{row % 7 % 4}" for row in rows], dtype="string")
    site[rows % 11 == 0] = pd.NA
    count = pd.array(rows % 10, dtype="Int64")
    count[rows % 5 == 1] = pd.NA
    return pd.DataFrame(
        {
            "site": site,
            key: rows if key == "sample" else [photo_name(row) for row in rows],
            "exposure": np.where(rows % 3 == 0, np.nan, np.sqrt(rows)),
            "count": count,
            "each": [f"x{row}" for row in rows],
        }
    )


def words_of(column: ColumnData):
    return [column.word(at) for at in range(len(column.values))]


@pytest.mark.parametrize("key", ["sample", "path"])
@pytest.mark.parametrize("shard_rows", [2**20, 512])
def test_columns__are_those_of_the_table_however_they_are_written(
    copied, tmp_path, monkeypatch, key, shard_rows
):
    for module in (own_columns, command):
        monkeypatch.setattr(module, "SHARD_ROWS", shard_rows)
    rows = np.random.default_rng(1).permutation(N_PHOTOS)[:1200]
    table = table_of(rows, key)
    table.to_csv(tmp_path / "own.csv", index=False)
    found = columns(copied.path, tmp_path / "own.csv")
    assert found["columns"] == ["site", "exposure", "count"]
    assert found["left_out"] == {"each": "1,200 different words; at most 1,000 are told apart"}
    site, exposure, count = columns_at(RunStore.open(copied.path), ALL)
    expected = table.set_index(rows).reindex(ALL)
    assert words_of(site) == expected["site"].fillna("missing").tolist()
    assert words_of(count) == expected["count"].astype("string").fillna("missing").tolist()
    np.testing.assert_array_equal(exposure.values, expected["exposure"].to_numpy(np.float32))
    frequent = expected["site"].value_counts()
    assert site.counts == sorted(frequent.tolist(), reverse=True)
    assert dict(zip(site.categories, site.counts, strict=True)) == frequent.to_dict()
    assert [c.n_missing for c in (site, exposure, count)] == [
        int(expected[name].isna().sum()) for name in ("site", "exposure", "count")
    ]
    assert exposure.limits == pytest.approx(np.nanquantile(expected["exposure"], [0.01, 0.99]))
    some = np.array([900, 3, 77])
    again = columns_at(RunStore.open(copied.path), some, ["exposure"])
    np.testing.assert_array_equal(again[0].values, exposure.values[some])


def columns_of_page(path):
    found = re.search(r'id="explorer-data">(.*?)</script>', path.read_text(), re.DOTALL)
    return [column["name"] for column in json.loads(found[1])["columns"]]


def test_page__keeps_them_through_merges_until_they_are_taken_away(copied, run_cli, tmp_path):
    run = Run(copied.path)
    page = run.report(columns=table_of(ALL, "sample"))
    assert columns_of_page(page) == ["site", "exposure", "count"]
    run.merge([0, 1])
    assert columns_of_page(page) == ["site", "exposure", "count"]
    axes = run.plot.map("site")
    assert [text.get_text() for text in axes.get_legend().get_texts()][-1].startswith("missing (")
    run.plot.map("exposure")
    with pytest.raises(ConfigError, match=r"a column that the run keeps.* got 'exposures'"):
        run.plot.map("exposures")
    # Words that are given at once have the same legend.
    words = np.array(["b", "a", "b"] * (N_PHOTOS // 3))
    axes = run.plot.map(words)
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts == [f"b ({2 * N_PHOTOS // 3:,})", f"a ({N_PHOTOS // 3:,})"]
    # Of other images they colour nothing, and the page says so.
    store = RunStore.open(copied.path)
    kept = dict(store.manifest.images)
    store.manifest.images["digest"] = "other"
    store.save()
    assert columns_of_page(run.report()) == []
    assert "were given for other images" in page.read_text()
    store.manifest.images = kept
    store.save()
    table_of(ALL, "sample")[["sample", "count"]].to_csv(tmp_path / "own.csv", index=False)
    status, out, _ = run_cli("report", copied.path, "--columns", tmp_path / "own.csv")
    assert (status, out.splitlines()[0]) == (
        0,
        "the map can be coloured by count, also after recut, merge and split",
    )
    out = run_cli("report", copied.path, "--columns", "none", "--json")[1]
    assert last_json(out)["columns"] == columns_of_page(page) == []
    assert kept_columns(RunStore.open(copied.path)) == []
    assert not (copied.path / "columns.zarr").exists()


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"sample": [0, N_PHOTOS], "site": 1}, r"by `sample`: 1500 \(row 2\)"),
        ({"sample": ALL, "name": [f"n{row}" for row in ALL]}, "name: 1,500 different words"),
        ({"sample": [], "site": []}, "site: it has no values"),
        ({"sample": [1]}, "it has no other columns"),
    ],
)
def test_columns__that_cannot_colour_are_refused_and_the_kept_ones_stay(copied, table, said):
    columns(copied.path, table_of(ALL, "sample"))
    with pytest.raises(ConfigError, match=said):
        columns(copied.path, pd.DataFrame(table))
    assert len(kept_columns(RunStore.open(copied.path))) == 3
    assert list(Path(copied.path, "wip").iterdir()) == []
