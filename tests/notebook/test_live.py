"""Progress in a notebook, in a real kernel: one output, redrawn until the run is done, stopped or failed."""

from __future__ import annotations

import os
import re
import time

import numpy as np
import pytest
from jupyter_client.manager import start_new_kernel

from tests.conftest import PROJECT
from tests.report.test_page import Page
from tests.runs.helpers import LEAN, SETTINGS, assert_same_labels, labels_of, make_run
from workflow.runstore import RunStore
from workflow.steps import STEPS

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:(zmq|jupyter_client|jupyter_core)"
)

PATIENCE_S = 120
#: Behind a hub: Dask's own setting for the way through it.
HUB = {
    "JUPYTERHUB_SERVICE_PREFIX": "/user/ada",
    "DASK_DISTRIBUTED__DASHBOARD__LINK": "{JUPYTERHUB_SERVICE_PREFIX}/proxy/{port}/status",
}


class Kernel:
    """A kernel, and what it shows."""

    def __init__(self, folder):
        environment = {**os.environ, **HUB, "PYTHONPATH": str(PROJECT)}
        self.manager, self.client = start_new_kernel(cwd=str(folder), env=environment)

    def run(self, code, until=None):
        """Run code; return the pages it showed, in order, the ids of its outputs, and its error.

        Interrupts the kernel as soon as `until` says so of a page.
        """
        asked = self.client.execute(code)
        shown, ids, error = [], set(), None
        deadline = time.monotonic() + PATIENCE_S
        while True:
            message = self.client.get_iopub_msg(timeout=max(0.1, deadline - time.monotonic()))
            # An update from a thread may name another cell: what counts is the output's id.
            is_update = message["msg_type"] == "update_display_data"
            if message["parent_header"].get("msg_id") != asked and not is_update:
                continue
            content = message["content"]
            if message["msg_type"] in ("display_data", "update_display_data"):
                ids.add(content["transient"]["display_id"])
                shown.append(content["data"]["text/html"])
                if until is not None and until(Page(shown[-1]).text):
                    until = None
                    self.manager.interrupt_kernel()
            elif message["msg_type"] == "error":
                error = content["ename"], content["evalue"]
                self.traceback = content["traceback"]
            elif message["msg_type"] == "status" and content["execution_state"] == "idle":
                return [Page(html) for html in shown], ids, error


@pytest.fixture(scope="module")
def kernel(tmp_path_factory, pictures, client):
    folder = tmp_path_factory.mktemp("kernel")
    np.save(folder / "images.npy", pictures[0])
    # Enough that each pass is seen at work.
    np.save(folder / "many.npy", np.tile(pictures[0], (12, 1, 1, 1)))
    np.save(folder / "nothing.npy", np.zeros((4000, 3), np.uint8))
    opened = Kernel(folder)
    opened.folder = folder
    settings = {**SETTINGS, **LEAN, "compute.n_workers": 2}
    # Starting workers for each run takes seconds.
    there = {"compute.launcher": "address", "compute.address": client.scheduler.address}
    there = {**SETTINGS, **LEAN, **there}
    _, _, error = opened.run(f"import workflow\nsettings, there = {settings}, {there}")
    assert error is None
    yield opened
    opened.client.stop_channels()
    opened.manager.shutdown_kernel(now=True)


RUN = "run = workflow.run('images.npy', out={out!r}, settings=settings)"
THERE = RUN.replace("settings=settings", "settings=there")


def test_run__is_drawn_into_one_output_until_it_is_done(kernel):
    pages, ids, error = kernel.run(RUN.format(out="run").replace("images.npy", "many.npy"))
    assert error is None
    assert len(ids) == 1
    assert len(pages) > 3
    first, last = pages[0].text, pages[-1].text
    assert first.startswith("run running for 0 s")
    assert re.match(r"run done in \d+ s ", last)
    assert re.findall(r"[a-z_]+(?= [\d.]+ s)", last.partition(" s ")[2]) == [
        "start",
        *(step.name for step in STEPS),
    ]
    running = [page for page in pages if "running for" in page.text]
    assert any("2 workers" in page.text for page in running)
    assert any(
        re.search(r"of [\d,]+ images \(\d+ %\), [\d,.]+ (a second|s each)", page.text)
        for page in running
    )
    links = {a["href"] for page in running for tag, a in page.elements if tag == "a"}
    assert len(links) == 1
    assert re.fullmatch(r"/user/ada/proxy/\d+/status", links.pop())
    # What is over has no dashboard.
    assert pages[-1].count("a") == 0


def test_run__that_is_interrupted_says_so_and_goes_on(kernel, client):
    # In the midst of the steps, whichever it is by then.
    pages, ids, error = kernel.run(
        THERE.format(out="stopped"), until=lambda text: re.search(r"ingest [\d.]+ s", text)
    )
    assert error[0] == "KeyboardInterrupt"
    assert len(ids) == 1
    assert re.search(r"stopped after \d+ s in \w+\. The same call goes on", pages[-1].text)
    pages, _, error = kernel.run(THERE.format(out="stopped"))
    assert error is None
    assert "done in" in pages[-1].text
    whole = make_run(kernel.folder / "images.npy", kernel.folder / "whole", client, **LEAN)
    again = RunStore.open(kernel.folder / "stopped")
    assert_same_labels(labels_of(again), labels_of(whole))


def test_run__that_fails_ends_with_the_line_of_the_error(kernel):
    # Whatever it is, once the bars are drawn: the disk, a worker, or as here the images.
    code = "import numpy as np; bad = np.ones((4000, 5), np.float32); bad[1234, 2] = np.nan; np.save('bad.npy', bad)\n"
    pages, _, error = kernel.run(code + "workflow.run('bad.npy', out='bad', settings=there)")
    assert error is not None
    assert error[1] in pages[-1].text.replace("&#x27;", "'")
    assert kernel.traceback == [f"{error[0]}: {error[1]}"], "one line, no page of our code"
    assert re.search(r"bad failed after \d+ s in pca\.", pages[-1].text)
    assert "1234" in pages[-1].text


def test_run__that_is_complete_or_not_to_be_shown_draws_nothing(kernel):
    kernel.run(THERE.format(out="complete"))
    assert kernel.run(THERE.format(out="complete"))[0] == []
    changed = "settings={**there, 'labels.noise': 'resolve'}, progress=False"
    pages, _, error = kernel.run(RUN.format(out="complete").replace("settings=settings", changed))
    assert (pages, error) == ([], None)
