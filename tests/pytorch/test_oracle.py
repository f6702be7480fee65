"""The committed oracles are what transformers, loralib and PEFT compute here and now."""

import numpy as np
import pytest

from common.model.bert_files import package_folder
from tests.oracles import make_bert_oracle, make_oracle


def compare(oracle, made):
    assert set(oracle) == set(made)
    for name, array in made.items():
        # MiniLM's are computed in float32.
        rtol, atol = (0, 1e-5) if name.startswith("minilm/") else (1e-9, 1e-12)
        np.testing.assert_allclose(oracle[name], array, rtol=rtol, atol=atol, err_msg=name)


@pytest.mark.slow
def test_the_file_can_be_made_again(oracle):
    compare(oracle, make_oracle.make())


@pytest.mark.slow
def test_berts_file_can_be_made_again():
    if package_folder() is None:
        pytest.skip("the package with MiniLM's weights is not installed: run scripts/setup.sh")
    with np.load(make_bert_oracle.PATH) as file:
        compare(dict(file), make_bert_oracle.make())
