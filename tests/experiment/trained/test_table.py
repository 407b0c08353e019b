"""Tables are valid Markdown with aligned columns."""

from experiment.trained.table import format_table


def test_columns_are_aligned_and_ruled():
    assert format_table(("head", "top-1 (%)"), [("branch 1", "9.50"), ("own", "100.00")]) == (
        "| head     | top-1 (%) |\n"
        "|----------|----------:|\n"
        "| branch 1 |      9.50 |\n"
        "| own      |    100.00 |"
    )


def test_any_text_stays_in_its_cell():
    table = format_table(("class", "images"), [("a|b\nc", "3")])
    assert table.splitlines()[2] == "| a\\|b c |      3 |"
