"""The page in real Chromium: one browser process for all tests, and made data whose pictures tell their index."""

from __future__ import annotations

import functools
import shutil
from typing import Any

import numpy as np
import pytest

from tests.report.conftest import certainty_of
from workflow.report import ExplorerData, FamilyTable, MapData, ReportData, render

#: What the program is called: on Debian, Ubuntu, and Google's own.
NAMES = ("chromium", "chromium-browser", "google-chrome")
#: What the tests shall not wait longer for [ms].
PATIENCE = 8_000


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(
            "no Chromium is here; as root on Debian: apt install chromium, or make chromium"
        )
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser, tmp_path):
    """Open a page of made data; at the end, no error was said and nothing was asked for but the page."""
    errors: list[str] = []
    asked: list[str] = []
    contexts = []

    def call(data: ReportData | str, where: str = "", *, site: str = "", **how: Any):
        text = data if isinstance(data, str) else rendered(data)
        file = tmp_path / f"report-{len(contexts)}.html"
        file.write_text(text, encoding="utf-8")
        how = {"viewport": {"width": 1200, "height": 800}, **how}
        contexts.append(browser.new_context(**how))
        page = contexts[-1].new_page()
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(site or f"{file.as_uri()}{where}")
        return page

    call.errors = errors  # type: ignore[attr-defined]
    yield call
    for context in contexts:
        context.close()
    assert errors == []
    outside = [url for url in asked if not url.startswith(("file:", "data:", "http://127.0.0.1:"))]
    assert outside == []


#: Drawing takes longer than opening.
rendered = functools.lru_cache(render)


def colour_of(index: int) -> tuple[int, int, int]:
    """Return the colour of the picture of an image."""
    return index % 256, index // 256 % 256, 77


def made(
    n: int = 2_000,
    n_clusters: int = 6,
    *,
    n_shown: int | None = None,
    pictures: bool = True,
    families: bool = True,
    paths: bool = True,
    **changes: Any,
) -> ReportData:
    """Return a report of clusters on a ring; image i is of cluster i modulo their number, every 20th is noise."""
    index = np.linspace(0, n - 1, min(n, n_shown or n)).astype(np.int64)
    rng = np.random.default_rng(0)
    cluster = (index % max(1, n_clusters)).astype(np.int32)
    angle = 2 * np.pi * cluster / max(1, n_clusters)
    ring = 10 * np.sqrt(max(1, n_clusters) / 6)
    places = np.column_stack([np.cos(angle), np.sin(angle)]) * ring
    places = (places + rng.normal(0, 1.2, places.shape)).astype(np.float32)
    cluster[index % 20 == 19] = -1
    if not n_clusters:
        cluster[:] = -1
    centroid_label = np.arange(-1, n_clusters, dtype=np.int32)
    strength = np.where(cluster < 0, 0, rng.uniform(0.2, 1, len(index))).astype(np.float32)
    n_pictures = min(len(index), 900) if pictures else 0
    tiles = np.array([colour_of(int(i)) for i in index[:n_pictures]], np.uint8)
    family = np.where(index < 60, index // 6, -1).astype(np.int32) if families else None
    ten = np.arange(10)
    table = FamilyTable(
        number=ten,
        size=np.full(10, 6),
        conductance=np.full(10, 0.1),
        expected=np.full(10, 0.5),
        dimension=np.full(10, 4.0),
        cluster=(ten % max(1, n_clusters)).astype(np.int32),
        cluster_share=np.full(10, 0.5),
    )
    size = n // max(1, n_clusters) + (np.arange(n_clusters) < n % max(1, n_clusters))
    neighbors = np.stack([np.roll(np.arange(n_clusters), -1), np.roll(np.arange(n_clusters), 1)], 1)
    fields: dict[str, Any] = {
        "title": "made data",
        "run_path": "/data/run",
        "summary": {
            "n_samples": n,
            "n_clusters": n_clusters,
            "noise_fraction": 0.05,
            "structure": "clusters",
            "doubtful_clusters": [1] if n_clusters > 1 else [],
            "n_resamples": 20,
            "n_clusters_interval": [n_clusters, n_clusters + 1],
            "cluster_names": {},
        },
        "cluster_size": size.astype(np.int64),
        "population": np.full(n_clusters + 1, n // (n_clusters + 1)),
        "rms_radius": np.ones(n_clusters + 1),
        "centroid_label": centroid_label,
        "certainty": certainty_of(n_clusters, doubtful=(1,)) if n_clusters > 1 else None,
        "families": table if families else None,
        "map": MapData(places, cluster, n),
        "explorer": ExplorerData(
            index=index,
            places=places,
            cluster=cluster,
            centroid=cluster + np.int32(1),
            strength=strength,
            outlier_score=(1 - strength).astype(np.float32),
            family=family,
            path=[f'/photos/it\'s "{i}".png' for i in index] if paths else None,
            pictures=np.broadcast_to(tiles[:, None, None], (n_pictures, 4, 4, 3))
            if pictures
            else None,
            layers=np.stack([np.where(centroid_label < 0, -1, centroid_label // 3)]).astype(
                np.int32
            ),
            neighbors=neighbors.astype(np.int32),
            flow=np.full(neighbors.shape, 7),
        ),
    }
    return ReportData(**{**fields, **changes})


@pytest.fixture(scope="session")
def plain() -> ReportData:
    """2,000 images in six clusters."""
    return made()
