"""A machine that was measured once, rounded: tests of plans need one, and measuring takes long."""

from __future__ import annotations

from workflow.pipeline.rates import Rates

MADE_RATES = Rates(
    once={
        "start": 4.5,
        "ingest": 0.3,
        "pca": 0.4,
        "projection": 0.1,
        "overcluster": 0.6,
        "centroid_graph": 0.1,
        "tree": 1.5,
        "labels": 0.1,
        "report": 1.2,
    },
    library=1.1,
    task=3e-3,
    result_byte=5e-9,
    read_byte=5e-10,
    write_byte=2e-9,
    sync_byte=3e-9,
    pack_byte=3e-8,
    unpack_byte=2e-9,
    file=3e-3,
    file_byte=2e-9,
    file_read_byte=5e-10,
    moments={
        "integer-1": [6e-12, 4e-10],
        "integer-2": [3e-11, 2e-9],
        "float-4": [4e-11, 2e-9],
        "low_rank": [0.0, 1.5e-7],
    },
    projection=[6e-11, 1e-9],
    eigen=3.4e-10,
    search={
        "round": [[1e-6, 2.5e-6], [2e-6, 5e-6]],
        "assign": [[2e-6, 2.5e-6], [3e-6, 5e-6]],
    },
    build=[[0.005, 0.006], [0.06, 0.07]],
    seed=[9e-11, 5e-9],
    labels=2e-7,
    dimension=6e-10,
    graph=0.01,
    tree=[0.2, 0.04],
    worker_bytes=330_000_000,
    leader_bytes=360_000_000,
)
