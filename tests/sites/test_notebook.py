"""The notebook for a cluster, on a real Slurm: its jobs from outside, and itself inside a job."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import PROJECT
from tests.sites import lab
from tests.test_notebooks import printed

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.filterwarnings(
        "ignore::DeprecationWarning:(zmq|jupyter_client|jupyter_core|nbclient)"
    ),
]

NOTEBOOK = PROJECT / "notebooks" / "03_on_a_cluster.ipynb"


def test_notebook__runs_in_jobs(slurm, tmp_path, monkeypatch):
    site = lab.write_site(tmp_path, "slurm", **{**lab.JOB, "queue": "lab", "n_workers": 2})
    monkeypatch.setenv("OVERCLUSTER_SITE", str(site))
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    text = printed(notebook)
    assert "#SBATCH -p lab" in text
    assert "Python and packages are the same here and there" in text
    assert "exit status 1" in text
    assert "the same labels as without the stop: True" in text
    shown = [
        output["data"]["text/html"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "text/html" in output.get("data", {})
    ]
    assert any("done in" in html for html in shown)
    lab.wait_until(slurm.is_empty)
    logs = "".join(path.read_text() for path in (tmp_path / "logs").glob("*"))
    # A worker at least for the check, for the run, for the one stopped and for the one resumed.
    assert logs.count("Start worker at:") >= 4


def test_notebook__runs_inside_a_job(slurm, tmp_path):
    shutil.copy(NOTEBOOK, tmp_path / "inside.ipynb")
    # The sockets of the lab's only node are on loopback.
    settings = "DASK_DISTRIBUTED__COMM__DEFAULT_SCHEME=tcp WORKFLOW_COMPUTE__INTERFACE=lo"
    script = tmp_path / "job.sh"
    script.write_text(
        "#!/bin/bash\n"
        "#SBATCH --nodes=1 --ntasks-per-node=1 --cpus-per-task=2 --mem=3000M --time=00:10:00\n"
        "#SBATCH --job-name=notebook --exclude=n1 --output=messages.txt\n"
        f"export PYTHONPATH={PROJECT} {settings}\n"
        f"exec {Path(sys.executable).with_name('jupyter-execute')} --timeout 300 --inplace inside.ipynb\n"
    )
    job = lab.call("sbatch", "--parsable", str(script), cwd=tmp_path).strip()
    lab.wait_until(lambda: slurm.is_empty("notebook"), patience_s=240)
    said = (tmp_path / "messages.txt").read_text()
    assert slurm.ended(job) == "COMPLETED", said
    text = printed(nbformat.read(tmp_path / "inside.ipynb", as_version=4))
    assert "the same labels in an allocation: True" in text
