"""What a check of a site sees, on workers of this machine; others are checked where they run."""

import numpy as np

from tests.conftest import last_json
from workflow.commands import compute_check as site_check
from workflow.steps import load_config
from workflow.versions import software_versions

LOCAL = {"compute.memory_limit": "1 GiB", "compute.dashboard": False}


def local(**settings):
    return load_config(None, LOCAL | settings, environment={}).config


def test_check_site__says_what_a_worker_saw(tmp_path):
    np.save(tmp_path / "images.npy", np.zeros((1000, 4, 4), np.uint8))
    found = site_check.check_site(local(), tmp_path / "images.npy", tmp_path / "run")
    assert found["problems"] == []
    assert found["differing"] == []
    assert found["n_workers"] == 1
    assert found["memory_limit"] == 2**30
    assert 0 < found["worker_s"] < found["result_s"]
    assert {name: pair["there"] for name, pair in found["versions"].items()} == software_versions()
    assert found["read_bytes"] == (tmp_path / "images.npy").stat().st_size
    assert found["run"] == str(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images.npy"]
    text = site_check.format_check(found)
    assert "readable and writable by the worker" in text
    assert f"numpy         {np.__version__}" in text


def test_check_site__images_that_are_not_there_are_a_problem(run_cli, tmp_path):
    status, out, err = run_cli("compute", "check", "local", "--images", tmp_path / "none", "--json")
    assert status == 2
    assert f"the worker cannot read {tmp_path / 'none'}" in err
    assert last_json(out)["sees_images"] is False


def test_read__stops_at_its_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(site_check, "MAX_READ_BYTES", 3000)
    monkeypatch.setattr(site_check, "CALL_BYTES", 1000)
    for index in range(5):
        (tmp_path / f"{index}").write_bytes(bytes(800))
    assert site_check._read(tmp_path) == 3200
    assert site_check._read(tmp_path / "0") == 800
    assert site_check._read(tmp_path / "none") == 0


def test_look_around__a_folder_that_is_not_there(tmp_path):
    seen = site_check.look_around((str(tmp_path / "no"), str(tmp_path / "nothing")))
    assert not seen["sees_run"]
    assert not seen["writes_run"]
    assert not seen["sees_images"]
