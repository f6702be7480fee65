"""Reading torch's files without torch: values against what torch itself wrote, damage, and other files."""

import pickle
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.errors import UserError
from common.model.torch_pickle import read_torch
from tests.common.model.torch_files import both_formats, rewrite, save

quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def as_numpy(tensor):
    tensor = tensor.detach()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def assert_equal(found, expected):
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        want = as_numpy(tensor)
        assert found[name].dtype == want.dtype, name
        assert found[name].shape == want.shape, name
        assert found[name].tobytes() == np.ascontiguousarray(want).tobytes(), name


@both_formats
def test_dtypes(tmp_path, is_zip):
    dtypes = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16,
              torch.int8, torch.uint8, torch.bool]
    state = {str(dtype): (torch.randn(3, 5) * 9).to(dtype) for dtype in dtypes}
    state["special"] = torch.tensor([float("inf"), -float("inf"), float("nan"), -0.0, 1e-42])
    state["special bfloat16"] = state["special"].bfloat16()
    state["scalar"] = torch.tensor(2.5)
    state["empty"] = torch.empty(0, 4)
    assert_equal(read_torch(save(tmp_path / "a.pt", state, is_zip)), state)


@both_formats
def test_views_and_shared_storages(tmp_path, is_zip):
    base = torch.arange(24.0).reshape(4, 6)
    state = {"base": base, "columns": base[:, 2:5], "steps": base[1::2, ::3], "transposed": base.t(),
             "row": base[2], "expanded": base[0, :1].expand(5, 3), "last": base.flatten()[23:]}
    found = read_torch(save(tmp_path / "a.pt", state, is_zip))
    assert_equal(found, state)
    found["base"][0, 2] = -1.0
    assert found["columns"][0, 0] == -1.0, "views of one storage share memory"


@both_formats
@quick
@given(data=st.data())
def test_any_view(tmp_path, is_zip, data):
    base = torch.arange(60, dtype=torch.int32).reshape(3, 4, 5)
    index = tuple(slice(data.draw(st.integers(0, size)), data.draw(st.integers(0, size)), data.draw(st.integers(1, 3)))
                  for size in base.shape)
    view = base[index].permute(data.draw(st.permutations(range(3))))
    assert_equal(read_torch(save(tmp_path / "a.pt", {"view": view}, is_zip)), {"view": view})


@both_formats
def test_state_dict_of_a_module_in_a_wrapper(tmp_path, is_zip):
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
    whole = {"model_state_dict": module.state_dict(), "step": 7, "best": 1.5, "name": "é", "sizes": [1, (2, None)],
             "shape": torch.Size([2, 3]), "parameter": module[0].weight}
    found = read_torch(save(tmp_path / "a.pt", whole, is_zip))
    assert_equal(found.pop("model_state_dict"), whole["model_state_dict"])
    assert_equal({"parameter": found.pop("parameter")}, {"parameter": module[0].weight})
    assert found == {"step": 7, "best": 1.5, "name": "é", "sizes": [1, (2, None)], "shape": (2, 3)}


def test_parameter_with_attributes(tmp_path):
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.note = True
    assert_equal(read_torch(save(tmp_path / "a.pt", {"a": parameter}, True)), {"a": parameter})


def test_big_endian_file(tmp_path):
    save(tmp_path / "a.pt", {"a": torch.tensor([1, 2], dtype=torch.int16)}, True)
    path = rewrite(tmp_path / "a.pt", tmp_path / "b.pt", byteorder=b"big")
    assert read_torch(path)["a"].tolist() == [256, 512]  # 0x0001 and 0x0002 read the other way round


@pytest.mark.parametrize("content, reason", [
    (b"", "EOFError"),
    (b"not a checkpoint", "not a torch checkpoint"),
    (pickle.dumps({"a": 1}), "first bytes are not torch's"),
    (b"PK\x03\x04", "not a zip file"),
], ids=["empty", "text", "plain pickle", "start of a zip"])
def test_other_files(tmp_path, content, reason):
    (tmp_path / "a.bin").write_bytes(content)
    with pytest.raises(UserError, match=reason):
        read_torch(tmp_path / "a.bin")


def test_other_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.txt", "text")
    with pytest.raises(UserError, match="0 entries named data.pkl"):
        read_torch(tmp_path / "a.zip")


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_torch(tmp_path / "a.pt")


STATE = {"a": torch.arange(40.0), "b": torch.ones(3, 4, dtype=torch.bfloat16)[:, 1:]}


@pytest.fixture(scope="module")
def intact(tmp_path_factory):
    folder = tmp_path_factory.mktemp("intact")
    return {is_zip: save(folder / f"{is_zip}.pt", STATE, is_zip).read_bytes() for is_zip in (True, False)}


@both_formats
def test_every_cut_is_an_error(tmp_path, intact, is_zip):
    path = tmp_path / "a.pt"
    for length in range(0, len(intact[is_zip]), 7):
        path.write_bytes(intact[is_zip][:length])
        with pytest.raises(UserError, match="a.pt: "):
            read_torch(path)


@both_formats
@settings(quick, max_examples=300)
@given(data=st.data())
def test_damage_ends_in_an_error_or_a_dictionary(tmp_path, intact, is_zip, data):
    content = bytearray(intact[is_zip])
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=3)):
        content[place] = data.draw(st.integers(0, 255))
    (tmp_path / "a.pt").write_bytes(content)
    try:
        assert isinstance(read_torch(tmp_path / "a.pt"), dict)
    except UserError as error:
        assert "a.pt: " in str(error)
