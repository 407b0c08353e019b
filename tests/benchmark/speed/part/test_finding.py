"""What a part has found is on the disk before it looks for more."""

import json

from benchmark.speed.part.finding import findings_as_markdown, keep


def test_findings_are_kept_one_by_one(tmp_path):
    path, seen = tmp_path / "part.json", []

    def findings():
        for number in range(3):
            seen.append(json.loads(path.read_text()))
            yield {"number": number}

    keep(findings(), path, device="cpu")
    assert [len(record["findings"]) for record in seen] == [0, 1, 2]
    assert not any(record["finished"] for record in seen)
    record = json.loads(path.read_text())
    assert record["finished"] and record["machine"]["torch"]
    assert record["findings"] == [{"number": 0}, {"number": 1}, {"number": 2}]


def test_rows_of_the_same_columns_are_one_table():
    text = findings_as_markdown(
        [
            {"text": "First.", "ok": True},
            {"step": "a", "ms": 1234.5},
            {"step": "b", "ms": None},
            {"kernel": "c", "us": 0.012345},
            {"text": "Last.", "ok": False},
        ]
    )
    first, one_table, other_table, last = text.split("\n\n")
    assert (first, last) == ("First.", "Last.")
    assert one_table.replace(" ", "").splitlines()[::2] == ["|step|ms|", "|a|1234|"]
    assert one_table.splitlines()[-1].replace(" ", "") == "|b||"
    assert other_table.replace(" ", "").splitlines()[::2] == ["|kernel|us|", "|c|0.0123|"]


def test_numbers_that_json_does_not_have_become_text(tmp_path):
    rows = [{"ms": float("nan"), "share": float("inf"), "steps": 2}]
    keep(iter(rows), tmp_path / "part.json", device="cpu")
    found = json.loads((tmp_path / "part.json").read_text())["findings"]
    assert found == [{"ms": "nan", "share": "inf", "steps": 2}]
