"""similar: the images nearest to one of the run or to a new one, as by comparing with all."""

import numpy as np
import pytest
from PIL import Image

from tests.commands.conftest import photo_name
from tests.conftest import last_json
from tests.runs.helpers import copy_of, lean_run
from workflow import Run
from workflow.commands import similar as module
from workflow.commands.predict import predict
from workflow.commands.similar import nearest_to, similar
from workflow.errors import ConfigError, ImagesError
from workflow.steps.projection import stored_scores


def brute(store, score, n, besides=None):
    """Return the nearest images by comparing with all of them."""
    scores = stored_scores(store).read(0, store.manifest.images["shape"][0]).astype(np.float64)
    apart = np.linalg.norm(scores - score, axis=1)
    if besides is not None:
        apart[besides] = np.inf
    order = np.lexsort((np.arange(len(apart)), apart))[:n]
    return order, apart[order]


def assert_are(found, expected):
    index, distance = expected
    assert [near["sample"] for near in found["neighbors"]] == index.tolist()
    np.testing.assert_allclose(
        [near["distance"] for near in found["neighbors"]], distance, rtol=1e-5, atol=1e-4
    )


@pytest.mark.parametrize("of", [0, 120, 1499])
@pytest.mark.parametrize("limit", [None, 5, 40])
def test_similar__to_an_image_of_the_run(photo_run, of, limit):
    """Beyond the stored neighbours all images are compared; both say the same."""
    found = similar(photo_run.path, of, limit=limit)
    score = stored_scores(photo_run).read(of, of + 1)[0].astype(np.float64)
    assert_are(found, brute(photo_run, score, limit or 15, besides=of))
    assert (found["recall"], found["path"]) == (1.0, photo_name(of))
    assert all(near["path"] == photo_name(near["sample"]) for near in found["neighbors"])


def test_similar__to_a_new_image_are_by_the_scores_that_predict_makes(photo_run, photos, tmp_path):
    rng = np.random.default_rng(7)
    image = (photos[1][700] + rng.normal(0, 4, (6, 6, 3))).round().clip(0, 255).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "new.png")
    np.save(tmp_path / "new.npy", image[None])
    of_file, of_array = (
        similar(photo_run.path, tmp_path / "new.png", limit=20),
        similar(photo_run.path, image, limit=20),
    )
    assert of_file["neighbors"] == of_array["neighbors"]
    assert (
        of_file["neighbors"] == similar(photo_run.path, tmp_path / "new.npy", limit=20)["neighbors"]
    )
    # The nearest image of the run must lie about where `predict` says that the new one lies.
    predict(photo_run.path, image, tmp_path / "labels.zarr")
    same = similar(photo_run.path, photos[1][700], limit=1)["neighbors"][0]
    assert (same["sample"], same["distance"]) == (700, 0.0)


def test_nearest_to__reads_what_can_be_near_and_finds_all(client, tmp_path, monkeypatch):
    """Images in the order of their sources: most blocks cannot hold any that is near, and are not read."""
    from tests.conftest import picture_set

    images, source = picture_set(n=3000, noise=4.0, seed=2)
    np.save(tmp_path / "images.npy", images[np.argsort(source, kind="stable")])
    store = lean_run(tmp_path / "images.npy", tmp_path / "run", client, block_rows=100)
    read, ahead = [], module.read_ahead

    def noted(rows, blocks):
        for block, values in ahead(rows, blocks):
            read.append(block)
            yield block, values

    monkeypatch.setattr(module, "read_ahead", noted)
    rng = np.random.default_rng(0)
    scores = stored_scores(store)
    for row in rng.integers(0, 3000, 12).tolist():
        near = scores.read(row, row + 1)[0] + rng.normal(0, 3, scores.n_features)
        expected, distance = brute(store, near, 10)
        found, apart = nearest_to(store, near, 10)
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_allclose(apart, distance, rtol=1e-9)
    assert len(read) < 12 * 30 / 2
    # The run has no stored neighbours: an image of it is compared with all.
    score = scores.read(5, 6)[0].astype(np.float64)
    assert_are(similar(store.path, 5, limit=4), brute(store, score, 4, besides=5))


def test_commands__are_one_by_two_names(run_cli, photo_run):
    first = last_json(run_cli("similar", photo_run.path, 7, "--json")[1])
    assert first == last_json(run_cli("neighbors", photo_run.path, "--of", 7, "--json")[1])
    assert first == similar(photo_run.path, 7)
    assert Run(photo_run.path).similar(7) == first
    status, out, _ = run_cli("similar", photo_run.path, 7)
    assert status == 0
    assert f"nearest to image 7 ({photo_name(7)})" in out
    assert len(out.splitlines()) == 16


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["1500"], "an image of the run, 0 to 1499; got 1500"),
        (["-1"], "No such option"),
        (["5", "--limit", "0"], "`--limit` must be at least 1"),
        (["no-such.png"], "does not"),
    ],
)
def test_command__says_in_one_line_what_is_wrong(run_cli, photo_run, words, said):
    status, out, err = run_cli("similar", photo_run.path, *words)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert said in err


def test_similar__refuses_what_is_not_one_image_like_those_of_the_run(photo_run, photos, tmp_path):
    with pytest.raises(ConfigError, match=r"must be given one image; .* holds 3"):
        similar(photo_run.path, photos[1][:3])
    with pytest.raises(ImagesError, match="must be like those of the run"):
        similar(photo_run.path, np.zeros((1, 5, 5, 3), np.uint8))
    store = copy_of(photo_run, tmp_path / "run")
    store.step("labels").state = "absent"
    store.save()
    with pytest.raises(OSError, match="must have labels"):
        similar(store.path, 3, limit=40)
