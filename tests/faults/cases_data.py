"""Bad files for the programs that read and write data."""

from tests.faults.cases import Case

CASES = [
    Case("no input", "src/format_converting_e2e.py", ["in.txt", "out.jsonl"], r"in\.txt: no such file"),
    Case("output is a folder", "src/format_converting_e2e.py", ["in.txt", "."], r"\.: is a folder",
         files={"in.txt": "name[A]||A.\n"}),
    Case("no input", "eval/squad/evaluate.py", ["data.json", "predictions.json"], r"data\.json: no such file"),
]
