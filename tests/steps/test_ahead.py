"""What is compiled ahead is what a run needs, and is compiled once on a machine."""

import subprocess

import numpy as np
import pytest

from tests.conftest import picture_set
from tests.runs.helpers import make_run
from workflow.steps.parts import ahead
from workflow.tree.contrast import _cluster_kernels, _rule_kernels


@pytest.mark.parametrize("is_there", [True, False])
def test_compiled_ahead__starts_a_process_only_where_code_is_missing(monkeypatch, is_there):
    started = []

    class Process:
        def __init__(self, command, **how):
            started.append([*command[1:], "begun"])

        def terminate(self):
            started[-1].append("ended")

        def wait(self):
            started[-1].append("gone")

    monkeypatch.setattr(ahead, "is_compiled", lambda function: is_there)
    monkeypatch.setattr(subprocess, "Popen", Process)
    with ahead.compiled_ahead():
        pass
    expected = ["-m", "workflow.steps.parts.ahead", "begun", "ended", "gone"]
    assert started == ([] if is_there else [expected])


def test_try_steps__leaves_nothing_of_the_tree_to_compile(tmp_path):
    kernels = [_rule_kernels.run_rule, _cluster_kernels.test_pairs]
    ahead.try_steps()
    compiled = [set(kernel.nopython_signatures) for kernel in kernels]
    np.save(tmp_path / "images.npy", picture_set(n=600)[0])
    make_run(tmp_path / "images.npy", tmp_path / "run", None)
    assert [set(kernel.nopython_signatures) for kernel in kernels] == compiled
