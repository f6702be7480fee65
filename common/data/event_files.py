"""Puts PHEE's files into data/phee: downloaded in one revision of its repository, or copied from a folder.

    python scripts/create_events.py [--source DIR]

With --source they come from DIR/phee/, or DIR itself, gzipped or not. A copy that is not the published file is used,
with a note; a download that is not is refused. The two files of questions are written from the table below where
--source does not have them; their words are those of PHEE (Sun et al. 2022, MIT licence).
"""

import argparse
import hashlib
import http.client
import os

from common.data.datasets import download
from common.data.events import QUESTION_FILES, read_phee, read_questions
from common.data.raw_files import check_inside, read_raw
from common.errors import UserError, note
from common.files import atomic_write, find_input, sha256_of
from common.paths import ROOT

REVISION = "41489b0"
UPSTREAM = f"https://raw.githubusercontent.com/ZhaoyueSun/PHEE/{REVISION}/data/eeqa"
FILES = {  # {name: SHA-256}
    "train.json": "2e9b3bbaea897afe45581237a161f150642ae334701cde9280d1044097ed3fb3",
    "dev.json": "d8966c107bf30c517dec46b5d53638c965f41a1f3a425457ab72d872d0828171",
    "test.json": "ed56fe8cd65333f9879eedc606b90709bd4b3cd2c0adfeb5e8a1aafb14cc00a0",
}
QUESTIONS = ({
    "Subject": "Who is the subject?",
    "Treatment": "What is the treatment?",
    "Effect": "What is the effect?",
}, {
    "Subject.Disorder": "What is the disorder of the subject?",
    "Subject.Age": "What is the age of the subject?",
    "Subject.Gender": "What is the gender of the subject?",
    "Subject.Population": "What is the number of subjects?",
    "Subject.Race": "What is the race of the subject?",
    "Treatment.Drug": "What are the drugs used in the treatment?",
    "Treatment.Disorder": "What is the disorder targeted by the treatment?",
    "Treatment.Route": "What is the route of the treatment?",
    "Treatment.Dosage": "What is the dosage of the treatment?",
    "Treatment.Time_elapsed": "How long has elapsed from the treatment to the occurence of the event?",
    "Treatment.Duration": "How long did the treatment last?",
    "Treatment.Freq": "What is the frequency of the treatment?",
    "Combination.Drug": "What are the drugs used in combination?",
})
OTHER_NAMES = "eeqa_"  # that a copy's names may begin with


def find_copy(name: str, source: str | None) -> str | None:
    """Returns the path of a copy of a file under a folder, or None.

    Raises:
        UserError: what has its name is a folder or leads nowhere.
    """
    if source is None:
        return None
    for folder in (os.path.join(source, "phee"), source):
        for candidate in (name, OTHER_NAMES + name):
            path = os.path.join(folder, candidate)
            if os.path.lexists(path) or os.path.lexists(f"{path}.gz"):
                return find_input(path)
    return None


def check_source(source: str) -> None:
    """Reads all that is taken from a folder, so that nothing is copied where a part of it is unfit.

    Raises:
        UserError: a file is missing, leads out of the folder, or cannot be used.
    """
    published = {role: question for questions in QUESTIONS for role, question in questions.items()}
    found = {name: find_copy(name, source) for name in (*QUESTION_FILES, *FILES)}
    for name, path in found.items():
        if path:
            check_inside(path, source)
            read_raw(path)
        elif name in FILES:
            raise UserError(f"--source {source}: no phee/{name} there (nor {OTHER_NAMES}{name}, nor .gz)")
    given = [found[name] for name in QUESTION_FILES if found[name]]
    questions = {**published, **(read_questions(given) if given else {})}
    for name in FILES:
        read_phee(found[name], questions, says=False)


def obtain(name: str, folder: str, source: str | None) -> None:
    """Writes one of FILES into a folder, unless it is there.

    Raises:
        UserError: the download fails.
    """
    expected, target = FILES[name], os.path.join(folder, name)
    if source is None and os.path.isfile(target):
        return
    if source:
        found = find_copy(name, source)
        content = read_raw(found)
        if hashlib.sha256(content).hexdigest() != expected:
            note(f"{found}: NOT the published file, whose sha256 is {expected}; used as it is")
    else:
        url = f"{UPSTREAM}/{name}"
        try:
            content = download(url)
        except (OSError, http.client.HTTPException) as error:
            raise UserError(f"cannot download {url}: {error}\nWithout network: download it on another machine to "
                            f"DIR/phee/{name} and run: python scripts/create_events.py --source DIR") from error
        if hashlib.sha256(content).hexdigest() != expected:
            raise UserError(f"{url}: the download is not the published file, whose sha256 is {expected}; try again")
    write_changed(target, content)


def obtain_questions(folder: str, source: str | None) -> list[str]:
    """Writes the files of questions into a folder, unless they are there; returns their paths."""
    paths = []
    for name, questions in zip(QUESTION_FILES, QUESTIONS):
        found, target = find_copy(name, source), os.path.join(folder, name)
        if found or not os.path.isfile(target):
            text = "\n".join(f"{role},{question}" for role, question in questions.items())
            write_changed(target, read_raw(found) if found else text.encode())
        paths.append(target)
    return paths


def write_changed(path: str, content: bytes) -> None:
    """Writes a file unless it has this content already, so that what was made from it stays newer."""
    if not os.path.isfile(path) or sha256_of(path) != hashlib.sha256(content).hexdigest():
        with atomic_write(path, "wb") as file:
            file.write(content)


def main(argv: list[str]) -> None:
    """Obtains the files, reads them all and prints what they hold."""
    parser = argparse.ArgumentParser(prog="create_events.py", description=__doc__.split("\n")[0])
    parser.add_argument("--source", metavar="DIR", help="folder with phee/, or with its files")
    parser.add_argument("--data", default=os.path.join(ROOT, "data"), help="where to write (default: data/)")
    options = parser.parse_args(argv)
    if options.source and not os.path.isdir(options.source):
        raise UserError(f"--source {options.source}: no such folder")
    if options.source:
        check_source(options.source)
    folder = os.path.join(options.data, "phee")
    questions = read_questions(obtain_questions(folder, options.source))
    for name in FILES:
        obtain(name, folder, options.source)
        path = os.path.join(folder, name)
        events = read_phee(path, questions)
        print(f"{path}: {len(events)} events in {len({event.sentence for event in events})} sentences")
