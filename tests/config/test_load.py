"""Settings: precedence, origins, and errors that name the nearest right key."""

import pytest
import yaml

from tests.conftest import PROJECT
from workflow.config import Config, flatten, known_keys
from workflow.errors import ConfigError
from workflow.steps import config_class, load_config


def load(*assignments, file=None, compute=None, environment=None):
    return load_config(file, assignments, compute=compute, environment=environment or {})


def test_load_config__later_layers_win(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text(
        "seed: 1\npca:\n  n_components: 10\n  whiten: true\ntree:\n  min_cluster_size: 9\n"
    )
    loaded = load(
        "pca.n_components=30",
        file=file,
        environment={"WORKFLOW_PCA__N_COMPONENTS": "20", "WORKFLOW_TREE__MIN_CLUSTER_SIZE": "50"},
    )
    assert loaded.config.pca.n_components == 30
    assert loaded.config.tree.min_cluster_size == 50
    assert loaded.config.seed == 1
    assert loaded.origins["pca.n_components"] == "--set"
    assert loaded.origins["tree.min_cluster_size"] == "WORKFLOW_TREE__MIN_CLUSTER_SIZE"
    assert loaded.origins["pca.whiten"] == "settings.yaml"
    assert loaded.origins["labels.noise"] == "default"


def test_load_config__every_field_has_a_sentence_and_an_origin():
    origins = load().origins
    for key, sentence in known_keys(config_class()):
        assert len(sentence) > 20, key
        assert key in origins


def test_load_config__flat_round_trip():
    config = load("pca.n_components=0.9", "ingest.shape=4,5,3", "compute.memory_limit=3 GiB").config
    flat = flatten(config.model_dump(mode="json"))
    assert load_config(None, flat, environment={}).config == config
    assert config.compute.memory_limit == 3 * 2**30
    assert config.ingest.shape == (4, 5, 3)


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ("pca.n_component=3", "Did you mean `pca.n_components`"),
        ("overcluster.max_rounds=9", "Did you mean `overcluster.max_iter`"),
        ("n_centroids=3", "Did you mean `overcluster.n_centroids`"),
        (
            "pca.n_components=-3",
            r"`pca.n_components` must be a whole number .*; got -3 \(from --set\)",
        ),
        ("pca.n_components=1.5", "must be a whole number"),
        ("overcluster.n_centroids=abc", "must be a whole number of at least 1, or auto; got 'abc'"),
        (
            "tree.method=hdbscn",
            "must be 'auto', 'contrast', 'density', 'hdbscan' or 'modularity'; got 'hdbscn'",
        ),
        ("seed=-1", "`seed` must be greater than or equal to 0"),
        ("seed", "must be KEY=VALUE"),
        ("pca=3", "must be a known one; got `pca`"),
        ("seed=[", "must be a plain value"),
        ("labels.noise=drop", "'keep' or 'resolve'"),
        ("compute.memory_limit=lots", "compute.memory_limit"),
        ("ingest.shape=a,b", "ingest.shape"),
    ],
)
def test_load_config__names_what_is_wrong(words, match):
    with pytest.raises(ConfigError, match=match) as caught:
        load(words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("- a\n- b\n", "must hold sections"),
        ("pca: {n_components: [}\n", "must be a readable YAML file"),
        ("pca:\n  n_comp: 3\n", "must be a known one; got `pca.n_comp`"),
        (b"\xff\xfe\x00", "must be a readable YAML file"),
        ("pca:\n  whiten: true\nseed: 3\npca: {}\n", "`pca` in line 1 and again in line 4"),
        ("tree:\n  flows: two\n\n  flows: two\n", "`tree.flows` in line 2 and again in line 4"),
        ("pca.whiten: true\npca:\n  whiten: true\n", "`pca.whiten` in line 1 and again in line 3"),
    ],
)
def test_load_config__refuses_a_bad_file(tmp_path, content, match):
    file = tmp_path / "settings.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=match):
        load(file=file)
    with pytest.raises(ConfigError, match="does not exist"):
        load(file=tmp_path / "missing.yaml")


def test_load_config__a_file_may_merge_what_it_then_overrides(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("tree: &kept {flows: two}\npca: {}\n")
    assert load(file=file).config.tree.flows == "two"
    file.write_text("pca:\n  <<: {n_components: 3, whiten: true}\n  n_components: 4\n")
    pca = load(file=file).config.pca
    assert (pca.n_components, pca.whiten) == (4, True)


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("WORKFLOW_PCA_N_COMPONENTS", "WORKFLOW_PCA__N_COMPONENTS"),
        ("WORKFLOW_BLOCK__ROWS", "block_rows"),
        ("WORKFLOW_TREE__SIZE", "must be a known one"),
    ],
)
def test_environment__what_is_surely_meant_for_us_is_refused(name, right):
    with pytest.raises(ConfigError, match=right):
        load(environment={name: "3"})


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("WORKFLOW_SED", "Did you mean WORKFLOW_SEED?"),
        ("WORKFLOW_N_COMPONENTS", "Did you mean WORKFLOW_PCA__N_COMPONENTS?"),
        ("WORKFLOW_TREE_MIN_CLUSTERSIZE", "Did you mean WORKFLOW_TREE__MIN_CLUSTER_SIZE?"),
        ("WORKFLOW_OVERCLUSTR_NUMBER", "Print the known settings"),
        ("WORKFLOW_RUN_ID", None),
        ("WORKFLOW_NAME", None),
    ],
)
def test_environment__what_is_like_a_setting_is_named(name, words, caplog):
    assert load(environment={name: "3"}).config == load().config
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == (words is not None)
    assert all(text.startswith(f"{name} sets nothing") and words in text for text in said)


def test_over__what_a_run_keeps_wins_over_the_defaults_only():
    kept = {"seed": 4, "pca.n_components": 12, "tree.flows": "two"}
    loaded = load("pca.n_components=auto", environment={"WORKFLOW_SEED": "5"}).over(kept)
    assert loaded.config.seed == 5
    assert loaded.config.pca.n_components == "auto"
    assert loaded.config.tree.flows == "two"
    assert loaded.origins["tree.flows"] == "the run folder"
    assert loaded.origins["labels.noise"] == "default"
    with pytest.raises(ConfigError, match=r"`seed` must be .*; got -1 \(from the run folder\)"):
        load().over({"seed": -1})


@pytest.mark.parametrize(
    "path", sorted((PROJECT / "cluster_configs").glob("*.yaml")), ids=lambda p: p.stem
)
def test_site_file__loads_by_name_and_by_path_and_explains_every_key(path):
    by_name, by_path = load(compute=path.stem), load(compute=str(path))
    assert by_name.config == by_path.config
    content = yaml.safe_load(path.read_text())
    assert set(content) == {"compute"}
    for line in path.read_text().splitlines():
        if line.strip() and not line.startswith("#") and line.strip() != "compute:":
            assert "#" in line, f"no comment: {line}"


def test_compute__takes_an_address_and_suggests_names():
    loaded = load(compute="tcp://127.0.0.1:9")
    assert loaded.config.compute.address == "tcp://127.0.0.1:9"
    with pytest.raises(ConfigError, match="Did you mean `local`"):
        load(compute="locl")


def test_compute__refuses_foreign_sections(tmp_path):
    site = tmp_path / "site.yaml"
    site.write_text("pca:\n  n_components: 3\n")
    with pytest.raises(ConfigError, match="section `compute` only"):
        load(compute=str(site))


def test_config__is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Config().seed = 3
