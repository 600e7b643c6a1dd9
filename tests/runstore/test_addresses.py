"""Addresses where nothing can be written are refused in one line, and leave nothing behind that is called like them."""

import re

import numpy as np
import pytest

ADDRESS = "s3://bucket/things.zarr"
WORDS = {
    "list of files": ["ingest", "@s3://bucket/files.txt", "copy.zarr"],
    "destination": ["ingest", "images.npy", ADDRESS],
    "destination in parts": ["ingest-init", "images.npy", ADDRESS, "--parts", "2"],
    "run folder": ["run", "images.npy", "--out", "https://bucket/run"],
    "update": ["update", "https://bucket/run", "images.npy"],
    "snapshot": ["predict", "gs://bucket/run@main", "images.npy", "--out", "labels.zarr"],
}


@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS)
def test_address__is_refused_in_one_line_and_nothing_is_made(run_cli, tmp_path, words):
    np.save(tmp_path / "images.npy", np.zeros((20, 4, 4), np.uint8))
    status, _, err = run_cli(*words)
    assert status == 2
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert "://bucket/" in line
    assert re.search("must be (where it can be written, )?on a file system", line)
    assert [path.name for path in tmp_path.iterdir()] == ["images.npy"]
