"""The committed oracle is what transformers and loralib compute here and now."""

from pathlib import Path

import numpy as np

from make_oracle import PATH, make


def test_the_file_can_be_made_again():
    made = make()
    with np.load(Path(PATH)) as committed:
        assert set(committed.files) == set(made)
        for name, array in made.items():
            np.testing.assert_allclose(committed[name], array, rtol=1e-9, atol=1e-12, err_msg=name)
