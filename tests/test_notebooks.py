"""The notebooks run from top to bottom, say what their prose says, and are kept without outputs."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
#: Settings of runs in notebooks that are about other things; the first two have all defaults.
WITHOUT_NEIGHBORS = {"WORKFLOW_NEIGHBORS__ENABLED": "false"}
LEAN = {**WITHOUT_NEIGHBORS, "WORKFLOW_TREE__N_RESAMPLES": "0"}
#: Numbers of images as they stand in a notebook, and fewer, of which its prose holds as well.
FEWER = {"20_000": "8_000", "15_000": "6_000", " 6_000, replace": " 4_000, replace"}

of_jupyter = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:(zmq|jupyter_client|jupyter_core|nbclient)"
)


def outputs(notebook, kind):
    """Return what the cells of a notebook show as one type of data."""
    found = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [o["data"][kind] for o in found if kind in o.get("data", {})]


def printed(notebook, name="stdout"):
    """Return all that the cells of a notebook printed."""
    found = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "".join(o.text for o in found if o.output_type == "stream" and o.name == name)


def numbers(pattern, text):
    """Return the numbers that a pattern finds."""
    return [float(number) for number in re.findall(pattern, text)]


@pytest.fixture
def execute(tmp_path, monkeypatch):
    """Run a notebook in a folder of its own."""

    def call(stem, settings=None, fewer=FEWER):
        for name, value in (settings or {}).items():
            monkeypatch.setenv(name, value)
        path = next(path for path in NOTEBOOKS if path.stem.startswith(stem))
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            for number, small in fewer.items():
                cell.source = cell.source.replace(number, small)
        resources = {"metadata": {"path": str(tmp_path)}}
        NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
        said = printed(notebook, "stderr").splitlines()
        # What Dask says of a client's own workers where a busy machine takes long to end them.
        assert [line for line in said if "Worker process still alive" not in line] == []
        shown = "".join(outputs(notebook, "text/html"))
        # The bars, as they were at the end, and the run as it shows itself.
        assert re.search(r"<b>[\w-]+</b> done in \d+ s", shown)
        assert re.search(r"<h4>\d+ clusters in [\d,]+ images</h4>", shown)
        return notebook

    return call


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook__is_kept_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert len(notebook.cells) - len(code) > 4
    text = "".join(cell.source for cell in notebook.cells)
    assert re.findall(r"(?<![\w.:/-])/(?:home|root|tmp|work|Users)/", text) == []


@pytest.mark.slow
@of_jupyter
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook__runs_as_it_is_kept(execute, path):
    execute(path.stem, fewer={})


@of_jupyter
def test_first_clusters__runs_and_finds_the_sources(execute, tmp_path):
    notebook = execute("01")
    text = printed(notebook)
    assert "the same labels as before: True" in text
    aris = numbers(r"ARI ([\d.]+)", text)
    assert len(aris) == 2
    assert min(aris) > 0.8
    assert len(outputs(notebook, "image/png")) == 7
    assert (tmp_path / "first-run" / "report.html").is_file()


@of_jupyter
def test_your_own_images__are_taken_from_a_folder_a_file_and_memory(execute):
    text = printed(execute("02"))
    assert "1 file could not be read; 5999 images" in text
    assert "box-2 holds 999 images" in text
    assert "the same labels as in the run: True" in text
    assert "images in the moments now: 6999" in text
    ((labelled, purity),) = re.findall(
        r"(\d+)% of the images have a label; on average (\d+)%", text
    )
    # One in ten shows the digit of a cluster by chance.
    assert int(labelled) > 80
    assert int(purity) > 60


@of_jupyter
def test_on_a_cluster__runs_here_and_goes_on_after_a_stop(execute, monkeypatch):
    monkeypatch.delenv("OVERCLUSTER_SITE", raising=False)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    text = printed(execute("03", LEAN))
    assert "site: local" in text
    assert "#SBATCH -p short" in text
    assert "#SBATCH -t 00:30:00" in text
    assert "Python and packages are the same here and there" in text
    assert "exit status 1" in text
    assert re.search(r"^pca +(complete|partial)", text, flags=re.MULTILINE)
    assert re.search(r"^labels +absent", text, flags=re.MULTILINE)
    assert "the same labels as without the stop: True" in text


@of_jupyter
def test_exploring__cuts_the_tree_and_finds_what_was_doubled(execute):
    notebook = execute("04", WITHOUT_NEIGHBORS)
    text = printed(notebook)
    assert "asked for five: 5 clusters" in text
    assert "the first labels are back: True" in text
    assert "n_clusters must be a number that the tree can give; got 5000. Near it are" in text
    (layers,) = re.findall(r"coarse to fine: \[([\d, ]+)\]", text)
    sizes = [int(size) for size in layers.split(",")]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) > 1
    groups = re.findall(r"^(\d+) times: \[([\d, ]+)\]", text, flags=re.MULTILINE)
    assert [int(size) for size, _ in groups] == [5, 3, 2]
    assert groups[0][1].split(", ")[0] == "7"
    assert len(outputs(notebook, "image/png")) == 11


@of_jupyter
def test_how_exact__finds_the_same_as_the_libraries(execute):
    text = printed(execute("05", LEAN))
    assert numbers(r"smallest \|cosine\| ([\d.]+)", text)[0] > 1 - 1e-9
    assert numbers(r"largest relative difference ([\d.e+-]+)", text)[0] < 1e-9
    assert numbers(r"brute force: ([\d.]+)%", text) == [100.0]
    assert numbers(r"by ([\d.e+-]+) of the mean", text)[0] < 1e-4
    if "FAISS is not installed" not in text:
        assert numbers(r"FAISS: ([\d.]+)%", text)[0] > 99.9
    # Beside k-means++: closer where images are many, farther where they are few.
    everything, of_sources, clutter = numbers(r"this run ([\d.]+), scikit-learn", text)
    assert of_sources < 1 < everything < clutter
    aris = numbers(r"ARI with the truth ([\d.]+)", text)
    assert len(aris) == 3
    assert min(aris) > 0.95
    assert numbers(r"ARI ([\d.]+) between this run and hdbscan", text)[0] > 0.95
