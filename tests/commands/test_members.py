"""members: any page of the order by strength, out of core, as by sorting everything."""

import json

import numpy as np
import pandas as pd
import pytest

from tests.commands.conftest import photo_name
from tests.conftest import last_json
from tests.runs.helpers import copy_of, labels_of
from workflow.commands.members import members
from workflow.errors import ConfigError, StoreError
from workflow.runstore import RunStore
from workflow.steps.browsing import members as parts


def brute(labels, chosen, by="strength"):
    """Return rows from the strongest to the weakest by sorting all of them."""
    rows = np.flatnonzero(chosen)
    keys = (rows, labels["outlier_score"].values[rows], -labels[by].values[rows])
    return rows[np.lexsort(keys)]


def listed(found):
    return [row["sample"] for row in found["rows"]]


@pytest.mark.parametrize("read_rows", [97, 2**20])
@pytest.mark.parametrize("order", ["strongest", "weakest"])
@pytest.mark.parametrize("cluster", [0, 2, "noise"])
def test_members__page_by_page_are_those_of_sorting_everything(
    photo_run, monkeypatch, cluster, order, read_rows
):
    monkeypatch.setattr(parts, "READ_ROWS", read_rows)
    labels = labels_of(photo_run)
    label = -1 if cluster == "noise" else cluster
    expected = brute(labels, labels["label"].values == label)[:: 1 if order == "strongest" else -1]
    assert len(expected)
    pages, step = [], max(7, len(expected) // 5)
    for offset in range(0, len(expected) + step, step):
        found = members(photo_run.path, cluster, limit=step, offset=offset, order=order)
        assert found["total"] == len(expected)
        pages += listed(found)
    assert pages == expected.tolist()


def test_members__of_equal_strength_come_in_the_order_of_the_images(photo_run):
    labels = labels_of(photo_run)
    label = int(labels["label"].values[100])
    equal = [i for i in listed(members(photo_run.path, label, limit=1500)) if 100 <= i < 140]
    assert equal == list(range(100, 140))


def test_ranked__whole_finds_the_page_that_a_short_one_finds(photo_run):
    """What the server asks of one object, again and again, is what the command finds by itself."""
    whole = parts.Ranked(photo_run, parts.Ranking.of_cluster(0))
    for weakest in (False, True):
        order = "weakest" if weakest else "strongest"
        for offset in (0, 1, 50, 10**9):
            found = members(photo_run.path, 0, limit=9, offset=offset, order=order)
            assert whole.page(offset, 9, weakest=weakest).tolist() == listed(found)


def test_strongest_of_each__are_the_first_of_each_order(photo_run, monkeypatch):
    monkeypatch.setattr(parts, "READ_ROWS", 333)
    labels = labels_of(photo_run)
    label = labels["label"].values
    for clusters in (None, [0, -1]):
        wanted = np.unique(label) if clusters is None else clusters
        expected = np.concatenate([brute(labels, label == c)[:11] for c in wanted])
        found = parts.strongest_of_each(photo_run, 11, clusters)
        np.testing.assert_array_equal(found, np.sort(expected))


def test_rows__tell_what_the_labels_hold(photo_run):
    labels = labels_of(photo_run)
    for row in members(photo_run.path, 1, limit=20)["rows"]:
        here = labels.isel(sample=row["sample"])
        assert row["path"] == photo_name(row["sample"]) == here["path"].item()
        assert (row["cluster"], row["family"]) == (here["label"].item(), here["family"].item())
        assert np.float32(row["strength"]) == here["strength"].item()
        assert np.float32(row["outlier_score"]) == here["outlier_score"].item()


def test_members__of_a_family_come_by_its_strength(photo_run):
    labels = labels_of(photo_run)
    if labels["family"].values.max() < 0:
        with pytest.raises(ConfigError, match="one of a run that has families"):
            members(photo_run.path, family=0)
        return
    expected = brute(labels, labels["family"].values == 0, "family_strength")
    found = members(photo_run.path, family=0, limit=len(expected))
    assert (found["family"], listed(found)) == (0, expected.tolist())


def test_members__go_to_a_file_in_their_order(photo_run, tmp_path, monkeypatch):
    monkeypatch.setattr("workflow.commands.members.FILE_ROWS", 50)
    for name, read in (("all.csv", pd.read_csv), ("all.parquet", pd.read_parquet)):
        found = members(photo_run.path, 0, order="weakest", offset=3, out=tmp_path / name)
        table = read(tmp_path / name)
        whole = members(photo_run.path, 0, order="weakest", offset=3, limit=1500)
        assert table["sample"].tolist() == listed(whole)
        assert found["written"] == len(table) == whole["total"] - 3
        assert table["path"].tolist() == [row["path"] for row in whole["rows"]]


def test_command__prints_lines_or_json_and_takes_a_name(run_cli, photo_run, tmp_path):
    store = copy_of(photo_run, tmp_path / "run")
    summary = json.loads((store.path / "summary.json").read_text())
    summary["cluster_names"] = {"1": 'sky & "sea"', "2": "twice", "3": "twice"}
    (store.path / "summary.json").write_text(json.dumps(summary))
    status, out, _ = run_cli("members", store.path, 'sky & "sea"', "--limit", 3)
    assert (status, len(out.splitlines())) == (0, 5)
    assert "of cluster 1, the strongest first" in out
    status, out, _ = run_cli("members", store.path, "1", "--limit", 3, "--json")
    assert last_json(out) == members(store.path, 1, limit=3)
    status, _, err = run_cli("members", store.path, "twice")
    assert (status, err.count("\n")) == (2, 1)
    assert "is that of 2, 3" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["99"], "a cluster must be 0 to"),
        (["sky"], "got 'sky'"),
        ([], "got neither"),
        (["1", "--family", "0"], "got cluster and family"),
        (["--family", "999"], "a family must be"),
        (["1", "--limit", "0"], "`--limit` must be at least 1"),
        (["1", "--offset", "-1"], "`--offset` must be at least 0"),
        (["1", "--out", "members.txt"], "must end in .csv or .parquet"),
    ],
)
def test_command__says_in_one_line_what_is_wrong(run_cli, photo_run, words, said):
    status, out, err = run_cli("members", photo_run.path, *words)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert said in err


def test_members__of_an_unfinished_run_are_refused(photo_run, tmp_path):
    store = copy_of(photo_run, tmp_path / "run")
    store.step("labels").state = "partial"
    store.save()
    with pytest.raises(StoreError, match="must have labels"):
        members(RunStore.open(store.path).path, 0)


def test_region__lists_the_images_in_a_rectangle_of_the_map(photo_run, tmp_path, run_cli):
    labels = labels_of(photo_run)
    x, y = labels["x"].values, labels["y"].values
    left, right = np.quantile(x, [0.2, 0.7]).tolist()
    bottom, top = np.quantile(y, [0.3, 0.9]).tolist()
    inside = (x >= left) & (x <= right) & (y >= bottom) & (y <= top)
    words = f"{left!r},{bottom!r},{right!r},{top!r}"
    out = tmp_path / "inside.csv"
    status, said, _ = run_cli("members", photo_run.path, f"--region={words}", "--out", out)
    assert status == 0
    assert f"of {inside.sum():,} images of the rectangle" in said
    found = pd.read_csv(out)["sample"].tolist()
    assert sorted(found) == np.flatnonzero(inside).tolist()
    assert found == brute(labels, inside, "strength").tolist()
    assert run_cli("members", photo_run.path, "--region", "1,2,0,5")[0] == 2
    assert run_cli("members", photo_run.path, "0", "--region", words)[0] == 2
