from pathlib import Path

from benchmarks.readme_tables import table, write_section


def test_a_section_is_replaced_and_its_neighbours_stay(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text("# Page\n")
    write_section("one", "## One\nold", page)
    write_section("two", "## Two", page)
    write_section("one", r"## One \1 new", page)
    text = page.read_text()
    assert "old" not in text
    assert text.index(r"## One \1 new") < text.index("## Two")
    assert text.count("<!-- one: begin -->") == 1


def test_a_table_has_a_header_and_its_rows() -> None:
    assert table(["a", "b"], [[1, "x"]]) == "| a | b |\n| --- | --- |\n| 1 | x |"
