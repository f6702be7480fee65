"""The committed oracle is what transformers and loralib compute here and now."""

import numpy as np
import pytest

from tests.oracles.make_oracle import make


@pytest.mark.slow
def test_the_file_can_be_made_again(oracle):
    made = make()
    assert set(oracle) == set(made)
    for name, array in made.items():
        np.testing.assert_allclose(oracle[name], array, rtol=1e-9, atol=1e-12, err_msg=name)
