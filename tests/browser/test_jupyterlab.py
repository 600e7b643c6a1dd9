"""A real JupyterLab shows the page of a run, and a cell has the images that are selected on it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from tests.runs.helpers import make_run
from workflow import Run

pytest.importorskip("jupyterlab", reason="pip install 'overcluster[notebook]'")
pytest.importorskip("anywidget", reason="pip install 'overcluster[notebook]'")

#: What a kernel and the page may take to come up on a busy machine [ms].
PATIENCE = 60_000
QUICK = {"tree.n_resamples": 0, "report.n_clusters_shown": 0}


def notebook_of(*cells):
    """Return a notebook of some cells, as its file has it."""
    spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    made = [
        {"cell_type": "code", "id": f"cell{at}", "metadata": {}, "outputs": [], "execution_count": None, "source": text}
        for at, text in enumerate(cells)
    ]  # fmt: skip
    return {"cells": made, "metadata": {"kernelspec": spec}, "nbformat": 4, "nbformat_minor": 5}


@contextlib.contextmanager
def lab_at(folder):
    """Serve a folder by JupyterLab; yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = folder / "jupyter"
    places = {name: str(own / name) for name in ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR")}
    environment = os.environ | {f"JUPYTER_{name}": place for name, place in places.items()}
    environment |= {"IPYTHONDIR": str(own / "ipython"), "PYTHONPATH": str(Path.cwd())}
    words = ["--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}"]
    words += ["--IdentityProvider.token=", f"--ServerApp.root_dir={folder}", "--LabApp.news_url="]
    words += ["--LabApp.expose_app_in_browser=True"]
    command = [sys.executable, "-m", "jupyterlab", *words]
    with (folder / "lab.log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        for _ in range(PATIENCE // 500):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api", timeout=5).close()
                break
            assert server.poll() is None, (folder / "lab.log").read_text()
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(60)


@pytest.mark.slow
def test_lab__shows_the_page_and_has_the_selection(browser, client, tmp_path, pictures):
    np.save(tmp_path / "images.npy", pictures[0][:2000])
    store = make_run(tmp_path / "images.npy", tmp_path / "run", client, **QUICK)
    first = f"from workflow import Run\nrun = Run({str(store.path)!r})\nrun.explore(height=500)"
    # Short, as the notebook takes away what is scrolled out of sight.
    second = "rows = run.selection; print('selected', [len(rows), int(rows @ rows)])"
    third = "run._explorer.select(region=(-10, -10, 10, 10)); print('region', len(run.selection))"
    cells = notebook_of(first, second, third)
    (tmp_path / "walk.ipynb").write_text(json.dumps(cells))
    with lab_at(tmp_path) as address:
        context = browser.new_context(viewport={"width": 1400, "height": 1000})
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(f"{address}/lab/tree/walk.ipynb")

        def run_next():
            page.evaluate("jupyterapp.commands.execute('notebook:run-cell-and-select-next')")

        page.locator(".jp-Notebook .jp-CodeCell").nth(2).wait_for()
        # A cell that is run before its kernel is there is not run at all.
        page.locator("text=/\\| Idle/").first.wait_for()
        run_next()
        frame = page.frame_locator(".jp-OutputArea iframe")
        frame.locator("#panel tbody a:text-is('0')").click()
        frame.locator("#panel h2:text('Cluster 0')").wait_for()
        run_next()
        said = page.locator(".jp-OutputArea-output:has-text('selected [')").inner_text()
        labels = Run(store.path).dataset.load()
        rows = np.flatnonzero(labels["label"] == 0)
        assert json.loads(said.removeprefix("selected ")) == [len(rows), int(rows @ rows)]
        run_next()
        frame.locator("#panel h2:text('Images in a rectangle')").wait_for()
        told = page.locator(".jp-OutputArea-output:has-text('region ')").inner_text()
        inside = (np.abs(labels["x"]) <= 10) & (np.abs(labels["y"]) <= 10)
        assert int(re.findall(r"\d+", told)[0]) == int(inside.sum()) > 0
        context.close()
