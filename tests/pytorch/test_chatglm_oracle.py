"""The file that both trees' ChatGLM2 is compared with holds what transformers and peft compute."""

import numpy as np

from tests.oracles.glm import PATH, compute


def test_the_file_is_what_its_script_computes():
    with np.load(PATH) as file:
        expected = dict(file)
    found = compute()
    assert found.keys() == expected.keys()
    for name, array in found.items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-9, atol=1e-12, err_msg=name)
