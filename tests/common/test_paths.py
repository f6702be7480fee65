"""Whether a folder can be written, as another user, on a read-only system and where a folder is none."""

import os
import tempfile

import pytest

from common.paths import what_cannot_be_written
from tests import as_other_user


@pytest.fixture
def shared():
    """A folder that every user may enter, unlike tmp_path, with one in it that only its owner may write."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        os.mkdir(os.path.join(folder, "mine"), 0o755)
        yield folder


def test_what_can_be_written(tmp_path):
    assert what_cannot_be_written(tmp_path) is None
    assert what_cannot_be_written(tmp_path / "new" / "newer") is None
    assert not (tmp_path / "new").exists()


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    for name in ("file", "dangling"):
        assert what_cannot_be_written(tmp_path / name) == f"{tmp_path}/{name} is no folder"
        assert what_cannot_be_written(tmp_path / name / "more") == f"{tmp_path}/{name} is no folder"


def test_another_users_folder(shared):
    mine = os.path.join(shared, "mine")
    assert as_other_user(lambda: what_cannot_be_written(shared)) is None
    for path in (mine, os.path.join(mine, "new", "newer")):
        found = as_other_user(lambda path=path: what_cannot_be_written(path))
        assert found.startswith(f"{mine} belongs to ") and found.endswith(" or is read-only")
