"""The grammar of advertisements: AdvertiseGen's format, and texts that say what their input says."""

import json

from common.demo.advertising import COUNTS, KINDS, make_rows, write_advertisements
from common.demo.rows import main


def test_rows():
    splits = make_rows(1, {"train": 300, "test": 50})
    inputs = [row["content"] for rows in splits.values() for row in rows]
    assert len(set(inputs)) == len(inputs) == 350 and splits == make_rows(1, {"train": 300, "test": 50})
    assert splits != make_rows(2, {"train": 300, "test": 50})
    for rows in splits.values():
        for row in rows:
            attributes = dict(part.split("#") for part in row["content"].split("*"))
            assert attributes.pop("类型") in KINDS and len(attributes) >= 3
            assert all(value in row["summary"] for value in attributes.values()), row
            assert row["summary"].endswith("。") and len(row["summary"]) < 140


def test_files_are_the_same_from_the_script(tmp_path, capsys):
    main(["advertisegen", "--output", str(tmp_path / "script"), "--seed", "3"])
    write_advertisements(tmp_path / "function", 3)
    for split, count in COUNTS.items():
        content = (tmp_path / "script" / f"{split}.json").read_bytes()
        assert content == (tmp_path / "function" / f"{split}.json").read_bytes()
        assert [set(json.loads(line)) for line in content.splitlines()] == [{"content", "summary"}] * count
