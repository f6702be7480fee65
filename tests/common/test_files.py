"""Reading and writing files: what is read whatever it is, and what is written whole or not at all."""

import gzip
import hashlib
import json
import os
import stat
import threading

import pytest

from common.errors import UserError
from common.files import (
    atomic_folder,
    atomic_write,
    check_inputs,
    check_outputs,
    find_input,
    is_stream,
    open_bytes,
    read_json,
    read_json_lines,
    read_lines,
    say_written,
    sha256_of,
    write_json,
    write_json_lines,
)

MARK = b"\xef\xbb\xbf"


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def content(path):
    with open(path, "rb") as file:
        return file.read()


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)


def feed(path, data):
    """Makes a pipe with a writer at its other end."""
    os.mkfifo(path)
    thread = threading.Thread(target=write, args=(path, data), daemon=True)
    thread.start()
    return thread


# Reading

def test_lines_come_without_the_files_mark_and_keep_other_marks():
    write("a", MARK + "é\n\ufeffb\r\n\nc".encode())
    assert list(read_lines("a")) == [(1, "é"), (2, "\ufeffb\r"), (3, ""), (4, "c")]
    write("empty", MARK)
    assert list(read_lines("empty")) == [(1, "")]


def test_json_comes_without_a_mark():
    write("a.json", MARK + b'{"a": 1}')
    write("a.jsonl", MARK + b'{"a": 1}\n{"a": 2}\n')
    assert read_json("a.json") == {"a": 1}
    assert list(read_json_lines("a.jsonl")) == [(1, {"a": 1}), (2, {"a": 2})]


@pytest.mark.parametrize("blanks, said", [("", ""), ("\n", "1 blank line at"), ("\n \n\t", "3 blank lines at")])
def test_blank_lines_at_the_end_are_said(capsys, blanks, said):
    write("a.jsonl", b'{"a": 1}\n' + blanks.encode())
    assert list(read_json_lines("a.jsonl")) == [(1, {"a": 1})]
    error = capsys.readouterr().err
    assert error == (f"note: a.jsonl: {said} its end ignored\n" if said else "")


def test_a_blank_line_inside_is_refused():
    write("a.jsonl", b'{"a": 1}\n\n{"a": 2}\n')
    with pytest.raises(UserError, match=r"^a\.jsonl:2: cannot be read as JSON: it is blank$"):
        list(read_json_lines("a.jsonl"))


def test_what_came_through_a_pipe_can_be_read_again():
    text = b'{"a": 1}\n' * 50_000  # more than a pipe holds
    thread = feed("pipe", text)
    assert sum(1 for _ in read_json_lines("pipe")) == 50_000
    thread.join()
    assert sum(1 for _ in read_lines("pipe")) == 50_000
    assert sha256_of("pipe") == hashlib.sha256(text).hexdigest()


def test_a_packed_file_is_found_by_its_plain_name_and_read_unpacked():
    write("a.jsonl.gz", gzip.compress(MARK + b'{"a": 1}\n'))
    assert find_input("a.jsonl") == "a.jsonl.gz" and list(read_json_lines("a.jsonl")) == [(1, {"a": 1})]
    assert sha256_of("a.jsonl.gz") == hashlib.sha256(MARK + b'{"a": 1}\n').hexdigest()
    os.mkdir("b")
    write("b.gz", gzip.compress(b"x"))
    assert find_input("b") == "b.gz"


def test_damaged_gzip_of_every_kind_is_refused():
    packed = gzip.compress(os.urandom(300) + b"text" * 300, mtime=0)
    refused = 0
    for position in range(len(packed)):
        for damaged in (packed[:position], packed[:position] + bytes([packed[position] ^ 255]) + packed[position + 1:]):
            write("a.gz", damaged)
            try:
                with open_bytes("a.gz") as file:
                    file.read()
            except UserError as error:
                assert "a.gz: cannot be unpacked: " in str(error)
                refused += 1
    # Cut off at 0 it is empty. The time, the level and the system in the head may be anything.
    assert refused >= 2 * len(packed) - 8


def test_check_inputs_names_the_first_that_cannot_be_read():
    write("a", b"")
    check_inputs("a", "a")
    with pytest.raises(UserError, match=r"^b: no such file \(nor b\.gz\)$"):
        check_inputs("a", "b")


# Writing

def test_a_link_is_followed_and_stays():
    os.mkdir("far")
    write("far/target", b"old")
    os.symlink("far/target", "link")
    with atomic_write("link") as file:
        file.write("new")
    assert os.readlink("link") == "far/target" and content("far/target") == b"new"
    assert os.listdir("far") == ["target"]


def test_a_link_to_nothing_yet_makes_its_target():
    os.symlink("far/target", "link")
    with atomic_write("link") as file:
        file.write("new")
    assert os.readlink("link") == "far/target" and content("far/target") == b"new"


def test_permissions_are_kept_and_a_new_file_has_those_of_the_umask():
    write("old", b"")
    os.chmod("old", 0o640)
    umask = os.umask(0o027)
    try:
        for name in ("old", "new"):
            with atomic_write(name):
                pass
    finally:
        os.umask(umask)
    assert [stat.S_IMODE(os.stat(name).st_mode) for name in ("old", "new")] == [0o640, 0o640]
    os.chmod("old", 0o604)
    with atomic_write("old"):
        pass
    assert stat.S_IMODE(os.stat("old").st_mode) == 0o604


def test_a_device_stays_a_device():
    before = os.stat("/dev/null")
    write_json("/dev/null", {"a": 1})
    assert os.stat("/dev/null").st_rdev == before.st_rdev and stat.S_ISCHR(os.stat("/dev/null").st_mode)
    os.symlink("/dev/null", "link")
    write_json("link", {"a": 1})
    assert os.readlink("link") == "/dev/null"


def test_a_pipe_is_written_to_and_stays():
    os.mkfifo("pipe")
    found = []
    thread = threading.Thread(target=lambda: found.append(content("pipe")), daemon=True)
    thread.start()
    assert write_json_lines("pipe", ({"a": number} for number in range(20_000))) == 20_000
    thread.join()
    assert found[0].decode() == "".join(f'{{"a": {number}}}\n' for number in range(20_000))
    assert stat.S_ISFIFO(os.stat("pipe").st_mode) and os.listdir() == ["pipe"]


def test_what_standard_output_leads_to_gets_it_in_order(capfd):
    print("before")
    write_json_lines("/dev/stdout", [{"a": 1}])
    print("behind")
    assert capfd.readouterr().out == 'before\n{"a": 1}\nbehind\n'
    assert is_stream("/dev/stdout") and is_stream("/dev/stderr") and not is_stream("a")


def test_what_was_written_is_not_said_into_it(capfd):
    say_written("/dev/stdout", "3 rows")
    say_written("a", "4 rows")
    assert capfd.readouterr() == ("4 rows\n", "3 rows\n")


@pytest.mark.parametrize("stops", [UserError("x"), OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_stops_leaves_the_old_file_and_nothing_else(stops):
    write("a", b"old")
    with pytest.raises(type(stops)):
        with atomic_write("a") as file:
            file.write("half")
            raise stops
    assert os.listdir() == ["a"] and content("a") == b"old"


def test_an_error_of_writing_names_the_file_and_another_one_keeps_its_name():
    for error, name in ((OSError(28, "No space left on device"), "a"),
                        (PermissionError(13, "Permission denied", "other"), "other")):
        with pytest.raises(OSError) as found:
            with atomic_write("a"):
                raise error
        assert found.value.filename == name


def test_a_name_as_long_as_the_system_takes_is_written():
    for name in ("n" * 255, "é" * 127, "项" * 85):
        with atomic_write(name) as file:
            file.write(name)
        assert content(name).decode() == name


@pytest.mark.parametrize("name", ["new", "there", "made/in/between", "link/in", "n" * 255])
def test_a_folder_appears_with_all_its_files(name):
    os.mkdir("there")
    os.mkdir("elsewhere")
    os.symlink("elsewhere", "link")
    umask = os.umask(0o027)
    try:
        with atomic_folder(name) as new:
            write_json(os.path.join(new, "a"), 1)
            write(os.path.join(new, "b"), b"2")
            os.chmod(os.path.join(new, "b"), 0o600)
            assert not os.path.exists(name) or not os.listdir(name)
    finally:
        os.umask(umask)
    assert sorted(os.listdir(name)) == ["a", "b"] and content(os.path.join(name, "b")) == b"2"
    assert stat.S_IMODE(os.stat(name).st_mode) == 0o750
    assert {stat.S_IMODE(os.stat(os.path.join(name, file)).st_mode) for file in "ab"} == {0o640}
    assert not [entry for entry in os.listdir() if entry.startswith(".")]


@pytest.mark.parametrize("stops", [UserError("x"), OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_folder_that_stops_half_way_leaves_nothing(stops):
    with pytest.raises(type(stops)):
        with atomic_folder("a") as new:
            write(os.path.join(new, "b"), b"half")
            raise stops
    assert os.listdir() == []


def test_an_error_of_writing_a_folder_names_it():
    with pytest.raises(FileNotFoundError) as found:
        with atomic_folder("a") as new:
            write(os.path.join(new, "no", "b"), b"")
    assert found.value.filename == "a/no/b"


def test_what_exists_is_no_new_folder():
    os.mkdir("a")
    write("a/b", b"1")
    for name in ("a", "a/b"):
        with pytest.raises(UserError, match=f"^{name}: exists and is not an empty folder; name another folder"):
            with atomic_folder(name):
                pass
    assert os.listdir() == ["a"] and content("a/b") == b"1"


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_no_number_that_json_lacks_is_written(number):
    with pytest.raises(UserError, match="^a: is not written, for a number in it is NaN or infinite"):
        write_json("a", {"x": [number]})
    with pytest.raises(UserError, match="^a: is not written"):
        write_json_lines("a", [{"x": 1}, {"x": number}])
    assert os.listdir() == []


def test_json_is_written_as_text():
    write_json("a", {"é": "项目"})
    assert content("a").decode() == '{\n  "é": "项目"\n}\n' and json.loads(content("a")) == read_json("a")


# Outputs that would destroy something

def same_by(kind):
    return {"name": "in", "path": "./folder/../in", "link": "link", "hard link": "hard"}[kind]


@pytest.mark.parametrize("kind", ["name", "path", "link", "hard link"])
@pytest.mark.parametrize("is_gzip", [False, True])
def test_an_output_that_is_an_input_is_refused(kind, is_gzip):
    os.mkdir("folder")
    name = "in.gz" if is_gzip else "in"
    write(name, b"precious")
    os.symlink(name, "link")
    os.link(name, "hard")
    path = same_by(kind) + (".gz" if is_gzip and kind in ("name", "path") else "")
    with pytest.raises(UserError, match="is the same file as the input|is not gzipped"):
        check_outputs([path], [None, "in"])
    assert content(name) == b"precious"


def test_an_output_that_becomes_the_input_once_its_folder_is_made_is_refused():
    write("in", b"precious")
    with pytest.raises(UserError, match="later/../in: is the same file as the input in"):
        check_outputs(["later/../in"], ["in"])


def test_outputs_that_are_one_file_are_refused():
    write("a", b"")
    os.symlink("a", "b")
    for paths in (["new", "new"], ["new", "x/../new"], ["a", "b"]):
        with pytest.raises(UserError, match="is the same file as the output"):
            check_outputs(paths)
    os.symlink("later", "dangling")
    with pytest.raises(UserError, match="dangling: is the same file as the output later"):
        check_outputs(["later", "dangling"])


def test_different_files_and_devices_pass_and_nothing_is_made():
    write("in", b"")
    check_outputs(["out", "new/deep/out", "/dev/null", "/dev/null", "/dev/stdout"], ["in", "missing", "/dev/null"])
    assert os.listdir() == ["in"]
