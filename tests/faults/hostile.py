"""Files that no program can use, by name: what they hold and the sentence that they deserve."""

import gzip
import json
import os

from common.paths import ROOT

VOCAB = str(ROOT / "vocab")
PACKED = gzip.compress(b'{"context": "a", "completion": "b"}\n' * 50)

# Of any program that reads JSON: {name: (content, sentence)}.
JSON = {
    "cut off": ('{"data": [', r"cannot be read as JSON: Expecting value"),
    "depth bomb": ("[" * 100_000, r"its JSON is nested too deeply"),
    "deep objects": ('{"a":' * 100_000, r"its JSON is nested too deeply"),
    "number of 5000 digits": ('{"data": ' + "7" * 5000 + "}", r"cannot be read as JSON: Exceeds the limit|expected"),
    "NaN": ('{"data": NaN}', r"cannot be read as JSON: NaN is no number of JSON"),
    "infinity": ('{"data": [-Infinity]}', r"cannot be read as JSON: -Infinity is no number of JSON"),
    "a name twice": ('{"id": 1, "x": 2, "id": 3}', r"cannot be read as JSON: the name 'id' appears twice"),
    "half of a pair": (r'{"x": ["a", "\ud83d"]}', r"\.x\[1\] holds half of a surrogate pair: '\\ud83d'"),
    "half of a pair as a name": (r'{"\udc00": 1}', r"holds half of a surrogate pair"),
    "Latin-1": ('{"x": "café"}'.encode("latin-1"), r"not UTF-8 text: .*0xe9 in position 10"),
    "UTF-16": ('{"x": 1}'.encode("utf-16"), r"not UTF-8 text: .*it looks like UTF-16"),
    "binary": (bytes(range(256)), r"not UTF-8 text"),
    "zeros": (bytes(4096), r"cannot be read as JSON"),
    "Python": ("{'data': []}", r"cannot be read as JSON: Expecting property name"),
    "two documents": ('{"a": 1} {"b": 2}', r"cannot be read as JSON: Extra data"),
    "a string": ('"text"', r'the JSON is "text", expected (a list|an object)'),
    "a number": ("5", r"the JSON is 5, expected (a list|an object)"),
    "null": ("null", r"the JSON is null, expected (a list|an object)"),
    "true": ("true", r"the JSON is true, expected (a list|an object)"),
    "an ESC sequence": ('{"\\u001b[2J": 1}', r"\\x1b\[2J|expected a list"),
}

# Of any program that reads a gzipped file.
GZIP = {
    "no gzip": (b"plain text\n", r"cannot be unpacked: Not a gzipped file"),
    "cut off": (PACKED[:-9], r"cannot be unpacked: Compressed file ended"),
    "bits flipped": (PACKED[:14] + bytes([PACKED[14] ^ 255, PACKED[15] ^ 255]) + PACKED[16:], r"cannot be unpacked"),
    "wrong checksum": (PACKED[:-8] + bytes(8), r"cannot be unpacked: CRC check failed"),
    "its head alone": (PACKED[:10], r"cannot be unpacked: Compressed file ended"),
}

# Of any program that reads a file whose path is {path}: what is there, made in the case's folder.
NO_FILE = {
    "missing": (lambda path: None, r": no such file \(nor "),
    "a folder": (lambda path: path.mkdir(), r": is a folder, expected a file"),
    "a broken link": (lambda path: path.symlink_to("nowhere"), r": is a link to nowhere, which does not exist"),
    "a link to itself": (lambda path: path.symlink_to(path), r": Too many levels of symbolic links"),
    "inside a file": (lambda path: None, r"no such file \(nor |Not a directory"),
    "too long a name": (lambda path: None, r"File name too long"),
}

# Of any program that writes a file.
NO_OUTPUT = {
    "a folder": (".", r"\.: is a folder, expected the name of a file to write"),
    "empty": ("", r"an empty name: expected the name of a file to write"),
    "a folder's name": ("new/", r"new/: expected the name of a file to write"),
    "inside a file": ("file/out", r"file/out: cannot be written: .*file is a file, expected a folder"),
    "deep inside a file": ("file/a/b/out", r"file/a/b/out: cannot be written: .*file is a file, expected a folder"),
    "where no files are": ("/proc/out", r"/proc/out: cannot be written: /proc (takes no files: |does not let)"),
    "in a folder where no files are": ("/proc/new/out", r"cannot be written: /proc (takes no files: |does not let)"),
    "too long a name": ("x" * 256, r"x: File name too long"),
    "in a folder with too long a name": (f"new/{'é' * 128}/out", r"/out: File name too long"),
    "gzipped": ("out.gz", r"out\.gz: what is written is not gzipped"),
}


def rows(*records):
    """Returns JSON lines."""
    return "".join(json.dumps(record) + "\n" for record in records)


def link(target, name):
    """Returns a function that makes a link in a folder."""
    return lambda folder: (folder / name).symlink_to(target)


def hard_link(target, name):
    """Returns a function that gives a file of a folder another name."""
    return lambda folder: os.link(folder / target, folder / name)
