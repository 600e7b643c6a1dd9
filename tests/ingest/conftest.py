import numpy as np
import pytest


@pytest.fixture
def images():
    """60 small images that compress."""
    rng = np.random.default_rng(0)
    return (rng.integers(0, 256, (60, 5, 4, 3)) // 16 * 16).astype(np.uint8)
