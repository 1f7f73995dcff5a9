"""Text, title and metadata of each format, against files of known text."""

from __future__ import annotations

from pathlib import Path

import pytest

from preparation.extract.document import ExtractedDocument, ExtractionFailure
from preparation.extract.extraction import extract
from preparation.extract.html_pages import html_text
from preparation.extract.pdf import join_hyphenated
from tests.unit.preparation.extract import files


def document(tmp_path: Path, name: str, data: bytes) -> ExtractedDocument:
    path = tmp_path / name
    path.write_bytes(data)
    (result,) = extract(path)
    assert not isinstance(result, ExtractionFailure), result
    return result


def test_html_keeps_the_content_and_drops_the_boilerplate(tmp_path: Path) -> None:
    page = document(tmp_path, "page.html", files.PAGE.encode())
    assert page.format == "html" and page.title == "A page" and page.id == "page.html"
    assert page.metadata["language"] == "de"
    assert page.metadata["links"] == ["/home", "/shop", "https://x.org/a?b=1&c=2"]
    for text in ("# Sorting\n", "Some bold text & a link", "## Steps\n", "apple", "seven"):
        assert text in page.text
    for text in ("script text", "Go home", "banner", "Imprint", "enable scripts", "color"):
        assert text not in page.text


def test_html_keeps_lists_of_content_near_the_body(tmp_path: Path) -> None:
    text = document(tmp_path, "page.html", files.PAGE.encode()).text
    assert "First one opens the box." in text and "Then one closes it." in text


def test_html_keeps_code_as_a_block(tmp_path: Path) -> None:
    text = document(tmp_path, "page.html", files.PAGE.encode()).text
    assert "```\ndef f(x):\n    return x < 2\n```" in text


def test_html_in_a_column_is_a_text() -> None:
    assert html_text("<p>One <i>two</i></p><p>three</p>")[0] == "One two\n\nthree"


def test_pdf_has_its_pages_in_order_and_joined_words(tmp_path: Path) -> None:
    data = files.pdf([["The long docu-", "ment ends."], [], ["Page three."]])
    result = document(tmp_path, "a.pdf", data)
    assert result.text == "The long document ends.\n\nPage three."
    assert result.title == "Known title" and result.metadata["authors"] == ["A. Writer"]
    assert result.metadata["pages"] == 3 and result.metadata["pages_without_text"] == [2]
    assert result.metadata["language"] == "en"


@pytest.mark.parametrize(
    ("text", "joined"),
    [
        ("exam-\nple", "example"),
        ("well-\nknown and well-known", "well-known and well-known"),
        ("Paris-\nBerlin", "Paris-Berlin"),
        ("1990-\n2000", "1990-2000"),
        ("a - b\nc", "a - b\nc"),
    ],
)
def test_a_hyphen_at_the_end_of_a_line_is_removed_where_it_divides_a_word(
    text: str, joined: str
) -> None:
    assert join_hyphenated(text) == joined


def test_docx_is_markdown_with_insertions_and_without_deletions(tmp_path: Path) -> None:
    result = document(tmp_path, "a.docx", files.docx())
    assert result.text.split("\n\n") == [
        "# Sorting",
        "Some text.",
        "- One\n- Two",
        "| Name | Count |\n| --- | --- |\n| a\\|b | 7 |",
        "kept inserted",
        "field",
    ]
    assert result.title == "Known title" and result.metadata["authors"] == ["A. Writer"]


def test_epub_follows_the_spine(tmp_path: Path) -> None:
    result = document(tmp_path, "a.epub", files.archive(files.epub_members()))
    assert result.text == "# b\n\nText of b.\n\n# a\n\nText of a."
    assert result.title == "The book"
    assert result.metadata == {"chapters": 2, "authors": ["A. Writer"], "language": "en"}


def test_markdown_front_matter_becomes_metadata(tmp_path: Path) -> None:
    data = b"---\ntitle: Guide\ntags: [a, b]\ndate: 2026-01-02\n---\n# Head\n\ntext  \n"
    result = document(tmp_path, "a.md", data)
    assert result.text == "# Head\n\ntext  " and result.title == "Guide"
    assert result.metadata == {"tags": ["a", "b"], "date": "2026-01-02"}


@pytest.mark.parametrize("front", ["---\na: [\n---\n", "---\n- x\n---\n", "---\na: &x [1]\n---\n"])
def test_front_matter_that_is_no_mapping_stays_text(tmp_path: Path, front: str) -> None:
    assert document(tmp_path, "a.md", f"{front}# Head\n".encode()).text == f"{front}# Head"
