"""The documents say what is so: their commands run, their names exist, their tables are those of the code."""

import dataclasses
import io
import json
import re
import shlex
import tarfile
import tomllib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from matplotlib import pyplot as plt
from PIL import Image

from docs import tables
from tests.ingest.models import write_model
from workflow.cli import main
from workflow.cli.program import program
from workflow.config import known_keys
from workflow.ingest import DemoSource, ingest
from workflow.pca import block_moments, feature_shift
from workflow.runstore import layout, zarr_io
from workflow.steps import STEPS, config_class
from workflow.steps.pca import moments_model
from workflow.steps.tree import OF_THE_TREE
from workflow.tree.linkage import Linkage

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(
    page for page in (ROOT / "docs").rglob("*.md") if "_build" not in page.parts
)
README = (ROOT / "README.md").read_text(encoding="utf-8")
#: Pages whose commands, and then whose Python, run in one folder, in this order.
GUIDES = {
    name: (ROOT / name).read_text(encoding="utf-8")
    for name in (
        "README.md",
        *(
            f"docs/{name}.md"
            for name in (
                "tree",
                "tutorial",
                "running",
                "results",
                "galleries",
                "new-images",
                "sources",
                "naming",
                "exporting",
                "vectors",
                "map",
                "families",
                "notebooks",
                "python",
            )
        ),
    )
}
#: What a fence says of a block that runs.
RUNS = ("sh runnable", "python")
FORMATS = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
#: Enough images for clusters, few enough for seconds.
N_IMAGES = 6_000


def blocks(text, kind):
    """Return the code blocks of a kind."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def commands():
    """Return the words of every command that is marked runnable, each once."""
    text = "\n".join(GUIDES.values())
    lines = [line for block in blocks(text, "sh runnable") for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in dict.fromkeys(lines)]


@pytest.fixture(scope="module")
def workers(client):
    """The environment of a user whose workers run already: starting some for each command takes seconds."""
    return {
        "WORKFLOW_COMPUTE__LAUNCHER": "address",
        "WORKFLOW_COMPUTE__ADDRESS": client.scheduler.address,
    }


def _write_shards(folder, images):
    """Write the tars and the table that the page on sources speaks of."""
    pictures = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "png")
        pictures.append(file.getvalue())
    for shard in range(2):
        with tarfile.open(folder / f"shards-{shard:03d}.tar", "w") as archive:
            for at in range(shard * 500, shard * 500 + 500):
                caption = json.dumps({"caption": f"image {at}"}).encode()
                beside = {"png": pictures[at], "cls": b"3", "json": caption}
                for ending, content in beside.items():
                    info = tarfile.TarInfo(f"{at:04d}.{ending}")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
    table = pa.table({"image": pa.array(pictures[:50], pa.binary()), "label": range(50)})
    pq.write_table(table, folder / "train.parquet")


@pytest.fixture(scope="module")
def place(tmp_path_factory, workers):
    """A folder with the images that the guides speak of, after all their commands were run in it."""
    folder = tmp_path_factory.mktemp("guides")
    ingest(DemoSource(N_IMAGES, seed=0), folder / "images.zarr")
    fresh = DemoSource(1_000, seed=1).read(0, 1_000).reshape(-1, 16, 16, 3)
    np.save(folder / "more.npy", fresh)
    (folder / "photos").mkdir()
    for index, image in enumerate(fresh[:20]):
        Image.fromarray(image).save(folder / "photos" / f"{index:02d}.png")
    (folder / "files.txt").write_text("photos/03.png\nphotos/01.png\n")
    _write_shards(folder, fresh)
    (folder / "mine.csv").write_text("sample,site\n0,north\n1,south\n")
    write_model(folder / "model.onnx", shape=(3, 16, 16))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, value in workers.items():
            patch.setenv(name, value)
        ended = {shlex.join(words): main(words[1:]) for words in commands()}
    return folder, ended


def test_commands__all_succeed(place):
    _, ended = place
    assert len(ended) > 10
    assert {words: status for words, status in ended.items() if status != 0} == {}


def test_commands__are_ours_and_name_every_command():
    assert all(words[0] == "overcluster" for words in commands())
    text = "\n".join(
        [*GUIDES.values(), (ROOT / "docs" / "clusters.md").read_text(encoding="utf-8")]
    )
    assert [n for n in program.commands if not re.search(rf"(`|overcluster ){n}\b", text)] == []
    run = {words[1] for words in commands()}
    assert {
        "plan",
        "run",
        "recut",
        "predict",
        "update",
        "report",
        "ingest",
        "config",
        "status",
    } <= run


@pytest.mark.parametrize("page", [page for page in GUIDES if blocks(GUIDES[page], "python")])
def test_python__runs(page, place, workers, client, monkeypatch):
    folder, _ = place
    monkeypatch.chdir(folder)
    for name, value in workers.items():
        monkeypatch.setenv(name, value)
    # What the pages say that their reader has.
    names = {
        "__name__": "__main__",
        "client": client,
        "images": np.load("more.npy")[:3],
        "my_column": np.arange(N_IMAGES) % 5,
    }
    for block in blocks(GUIDES[page], "python"):
        exec(compile(block, page, "exec"), names)
    plt.close("all")
    if page == "docs/python.md":
        assert 0 < names["clean"].sizes["sample"] <= N_IMAGES
        assert names["new"].sizes["sample"] == 1_000
    elif page == "docs/vectors.md":
        assert names["run"].dataset.sizes["sample"] == N_IMAGES
    elif page == "docs/tree.md":
        assert names["tree"].n_clusters == 6
        assert names["model"].n_clusters_ == 3
    elif page == "docs/notebooks.md":
        assert names["page"].selected == {"region": [-5, 0, 5, 12]}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks__run_or_say_what_they_need(page):
    name, text = page.relative_to(ROOT).as_posix(), page.read_text(encoding="utf-8")
    for fence in re.findall(r"^```((?:sh|bash|console|python|py)\b.*)$", text, flags=re.MULTILINE):
        assert name in GUIDES if fence in RUNS else " needs=" in fence, fence
    for block in blocks(text, r"python needs=\w+"):
        compile(block, name, "exec")


def test_blocks_of_a_step_of_ones_own__are_those_that_are_tested():
    page = (ROOT / "docs" / "adding-a-step.md").read_text(encoding="utf-8")
    source = (ROOT / "tests" / "steps" / "brightness.py").read_text(encoding="utf-8")
    shown = re.findall(r"^   ```python\n(.*?)^   ```$", page, flags=re.MULTILINE | re.DOTALL)
    assert len(shown) == 3
    assert [
        block for block in shown if re.sub(r"^   ", "", block, flags=re.MULTILINE) not in source
    ] == []


def test_makefile__has_the_targets_that_are_named():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = {
        name
        for page in PAGES
        for name in re.findall(r"(?<![\w-])make ([a-z-]+)(?=[\s`)]|$)", code_of(page))
    }
    assert {"demo", "test", "check", "bench"} <= named
    assert named - targets == set()


def code_of(page, besides=None):
    """Return what a page shows as code, besides blocks of one kind."""
    text = page.read_text(encoding="utf-8")
    for block in blocks(text, besides) if besides else ():
        text = text.replace(block, "")
    return "\n".join(
        re.findall(r"^```.*?^```$", text, flags=re.MULTILINE | re.DOTALL)
        + re.findall(r"`[^`\n]+`", text)
    )


def test_readme__begins_with_the_two_commands():
    first = blocks(README, "console needs=checkout")[0]
    assert re.findall(r"^make (\w+)", first, flags=re.MULTILINE) == ["demo", "test"]


def test_settings__that_are_named_exist():
    keys = {key for key, _ in known_keys(config_class())}
    sections = {key.split(".")[0] for key in keys if "." in key}
    pattern = rf"(?<![\w./-])(?:{'|'.join(sections)})\.[a-z_]+(?![\w(/])"
    files = {"html", "zarr", "jsonl", "npz", "py", "yaml", "json"}
    # The package has the name of a step, and so a module of it that of a setting.
    modules = {"overcluster.accessors"}
    for page in PAGES:
        # What Python blocks have dots in are attributes.
        named = set(re.findall(pattern, code_of(page, besides="python")))
        unknown = {n for n in named - keys - modules if n.split(".")[1] not in files}
        assert unknown == set(), page.name
    assigned = re.findall(r"--set ([\w.]+)=", "\n".join(page.read_text() for page in PAGES))
    assert set(assigned) <= keys | {"KEY"}


def test_settings_page__holds_a_configuration_that_loads():
    text = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    (example,) = blocks(text, "yaml")
    named = set(tables.flatten(yaml.safe_load(example)))
    assert named <= {key for key, _ in known_keys(config_class())}


@pytest.mark.parametrize("page", tables.TABLES)
def test_tables__are_those_of_the_code(page):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert text == tables.filled(page), "run: python docs/tables.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links__lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert [link for link in links if not (page.parent / link.split("#")[0]).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages__name_no_place_of_one_machine(page):
    assert re.findall(r"(?<![\w.:/-])/(?:home|root|tmp|work|Users)/", page.read_text()) == []


def bounds(requirements):
    """Return package -> bounds; dask[distributed] is two packages where there are no extras."""
    found = {}
    for requirement in requirements:
        name, extra, limits = re.fullmatch(r"([\w-]+)(?:\[(\w+)\])?(.*)", requirement).groups()
        found[name] = limits
        if extra:
            found[extra] = limits
    return found


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_environment__holds_what_the_project_depends_on(project):
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    *names, pip = environment["dependencies"]
    assert pip == {"pip": ["-e .[dev]"]}
    found = bounds(names)
    assert found.pop("pip") == ""
    assert found.pop("python") == project["requires-python"]
    assert found == bounds(project["dependencies"])


def test_dependencies__have_a_reason_each(project):
    text = (ROOT / "docs" / "decisions" / "0001-dependencies.md").read_text(encoding="utf-8")
    reasons = dict(re.findall(r"^\| `([\w-]+)` \| (.+) \|$", text, flags=re.MULTILINE))
    assert set(reasons) == set(bounds(project["dependencies"]))
    assert min(map(len, reasons.values())) > 10


def test_decisions__have_the_house_form():
    pages = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    assert [page.name[:4] for page in pages] == [f"{n:04d}" for n in range(1, len(pages) + 1)]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert re.match(
            rf"# {page.name[:4]} [^\n]+\n\nStatus: (accepted|overruled)\b[^\n]*\.\n\n", text
        )
        assert re.findall(r"^## (.+)$", text, flags=re.MULTILINE) == [
            "Motivation",
            "Decision",
            "Alternatives",
            "Open questions",
        ]


def test_formats__name_everything_in_a_run_folder(place):
    run = place[0] / "my-run"
    rows = "\n".join(line for line in FORMATS.splitlines() if line.startswith("| `"))
    named = re.findall(r"`([^`]+)`", rows)
    patterns = [re.sub(r"N+", r"\\d+", re.escape(name.rstrip("/"))) for name in named]
    for path in [*run.iterdir(), *(p for step in STEPS for p in (run / step.name).glob("*"))]:
        names = {path.name, path.relative_to(run).as_posix()}
        assert any(re.fullmatch(p, n) for p in patterns for n in names), path.name
    assert f"Format version {layout.FORMAT_VERSION}," in FORMATS


def test_formats__name_every_array_of_a_model(place):
    stored = set(zarr_io.array_names(place[0] / "my-run" / layout.MODEL))
    for dtype, kind in (("uint8", "integer"), ("float32", "float"), ("float32", "low_rank")):
        rows = np.eye(4, dtype=dtype)
        stored |= set(moments_model(block_moments(rows, kind=kind, shift=feature_shift(rows))))
    named = set(re.findall(r"`(\w+)`", FORMATS))
    assert stored - named == set()
    # Of these, some are there with some methods only.
    possible = stored | {f"tree_{field.name}" for field in dataclasses.fields(Linkage)}
    documented = {n for n in named if n.startswith(("tree_", "moments_"))} - {
        "tree_method",
        # Names of earlier versions.
        "tree_opinions",
        "tree_ladder",
        *OF_THE_TREE,
    }
    assert documented - possible == set()


def test_formats__name_every_key_of_the_records(place):
    run = place[0] / "my-run"
    for file in (layout.MANIFEST, layout.SUMMARY):
        for key in yaml.safe_load((run / file).read_text()):
            assert f"`{key}`" in FORMATS, f"{file}: {key}"
