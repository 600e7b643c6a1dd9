"""The graph record against SciPy."""

import numpy as np
from scipy import sparse

from workflow.graph import Graph


def test_graph__agrees_with_scipy():
    rng = np.random.default_rng(0)
    dense = np.triu(rng.integers(0, 4, (30, 30)) * (rng.random((30, 30)) < 0.3), 1)
    dense[:, 7] = dense[7] = 0
    dense += dense.T
    matrix = sparse.csr_array(dense)
    graph = Graph(matrix.indptr, matrix.indices, matrix.data)
    assert graph.n_nodes == 30
    np.testing.assert_array_equal(graph.to_sparse().toarray(), dense)
    np.testing.assert_array_equal(graph.rows(), np.nonzero(dense)[0])
    np.testing.assert_array_equal(graph.weight_sums(), dense.sum(axis=1))
    group = rng.integers(0, 3, 30)
    inside = graph.inside(group).to_sparse().toarray()
    np.testing.assert_array_equal(inside, dense * (group[:, None] == group))
    none = Graph(np.zeros(4, np.int64), np.empty(0, np.int32), np.empty(0))
    assert none.weight_sums().tolist() == [0, 0, 0]
    assert none.inside(np.zeros(3, int)).n_nodes == 3
