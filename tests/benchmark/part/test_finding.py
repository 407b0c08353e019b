"""What a part has found is on the disk before it looks for more."""

import json

import pytest

from benchmark.part.finding import Line, all_is_well, keep, markdown


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


def test_a_part_that_fails_has_not_finished(tmp_path):
    def findings():
        yield Line("one")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        keep(findings(), tmp_path / "part.json", device="cpu")
    record = json.loads((tmp_path / "part.json").read_text())
    assert (record["finished"], record["findings"]) == (False, [{"text": "one", "ok": True}])


def test_rows_of_the_same_columns_are_one_table():
    text = markdown(
        [
            {"text": "First.", "ok": True},
            {"step": "a", "ms": 1234.5},
            {"step": "b", "ms": None},
            {"kernel": "c", "us": 0.012345},
            {"text": "Last.", "ok": False},
        ]
    )
    assert text == (
        "First.\n\n| step | ms |\n|--|--:|\n| a | 1234 |\n| b |  |\n\n"
        "| kernel | us |\n|--|--:|\n| c | 0.0123 |\n\nLast."
    )


def test_numbers_that_json_does_not_have_become_text(tmp_path):
    rows = [{"ms": float("nan"), "share": float("inf"), "steps": 2}]
    keep(iter(rows), tmp_path / "part.json", device="cpu")
    found = json.loads((tmp_path / "part.json").read_text())["findings"]
    assert found == [{"ms": "nan", "share": "inf", "steps": 2}]


def test_all_is_well_unless_a_line_says_otherwise():
    rows = [{"ms": 1.0}, Line("fine")._asdict()]
    assert all_is_well(rows)
    assert not all_is_well([*rows, Line("wrong", ok=False)._asdict()])
