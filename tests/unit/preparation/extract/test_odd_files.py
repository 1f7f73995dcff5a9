"""Odd files: each yields its text or a reason as a fixed word, and never an exception."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from preparation.extract.document import ExtractedDocument, ExtractionFailure, ExtractionLimits
from preparation.extract.extraction import extract
from tests.unit.preparation.extract import files


def encrypted_pdf(password: str) -> bytes:
    import pypdf

    writer = pypdf.PdfWriter(clone_from=io.BytesIO(files.pdf([["Secret words"]])))
    writer.encrypt(user_password=password, owner_password="owner", algorithm="AES-256")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def book(changes: dict[str, str | bytes]) -> bytes:
    return files.archive({**files.epub_members(), **changes})


def page(body: str) -> bytes:
    return f"<html><body>{body}</body></html>".encode()


OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 512
PROTECTED = (
    '<encryption><CipherReference xmlns="http://www.w3.org/2001/04/xmlenc#" '
    'URI="OPS/text/a.xhtml"/></encryption>'
)
ENTITIES = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><package>&b;</package>'
CYCLE = files.pdf([["x"]]).replace(b"/Kids [4 0 R]", b"/Kids [2 0 R]")

FAILURES: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "empty file": ("a.txt", lambda: b"", "empty"),
    "white space only": ("a.md", lambda: b" \n\t\n", "empty"),
    "byte order mark only": ("a.txt", lambda: b"\xef\xbb\xbf", "empty"),
    "front matter only": ("a.md", lambda: b"---\ntitle: x\n---\n", "empty"),
    "text in cp1252": ("a.txt", lambda: "Grüße".encode("cp1252"), "encoding"),
    "markdown in cp1252": ("a.md", lambda: "# Grüße".encode("cp1252"), "encoding"),
    "wrong byte order mark": ("a.txt", lambda: b"\xef\xbb\xbfGr\xfc", "encoding"),
    "UTF-16 without a mark": ("a.txt", lambda: "Hello".encode("utf-16-le"), "unsupported"),
    "binary": ("a.txt", lambda: bytes(range(256)), "unsupported"),
    "PNG named .txt": ("a.txt", lambda: b"\x89PNG\r\n\x1a\n0000", "unsupported"),
    "JPEG named .pdf": ("a.pdf", lambda: b"\xff\xd8\xff\xe0aaaa", "unsupported"),
    "gzip": ("a.html.gz", lambda: b"\x1f\x8b\x08\0abc", "unsupported"),
    "RTF named .docx": ("a.docx", lambda: b"{\\rtf1 text}", "unsupported"),
    "old Word": ("a.doc", lambda: OLE, "unsupported"),
    "Word with a password": (
        "a.docx",
        lambda: OLE + "EncryptedPackage".encode("utf-16-le"),
        "encrypted",
    ),
    "Excel": ("a.xlsx", lambda: files.archive({"xl/workbook.xml": "<x/>"}), "unsupported"),
    "ZIP of texts": ("a.zip", lambda: files.archive({"a.txt": "x"}), "unsupported"),
    "PDF with a password": ("a.pdf", lambda: encrypted_pdf("user"), "encrypted"),
    "PDF of images": ("a.pdf", lambda: files.pdf([["x"], ["y"]], image=True), "needs_ocr"),
    "PDF of empty pages": ("a.pdf", lambda: files.pdf([[], []]), "no_text"),
    "PDF header only": ("a.pdf", lambda: b"%PDF-1.7\n", "damaged"),
    "PDF cut short": ("a.pdf", lambda: files.pdf([["x"]])[:300], "damaged"),
    "PDF that is its own page": ("a.pdf", lambda: CYCLE, "damaged"),
    "DOCX cut short": ("a.docx", lambda: files.docx()[:3000], "damaged"),
    "DOCX without a document": (
        "a.docx",
        lambda: files.archive({"[Content_Types].xml": "<x/>", "word/styles.xml": "<x/>"}),
        "damaged",
    ),
    "decompression bomb": (
        "a.docx",
        lambda: files.archive({"word/document.xml": b"\0" * 30_000_000}),
        "too_large",
    ),
    "EPUB cut short": ("a.epub", lambda: book({})[:400], "damaged"),
    "EPUB without a container": (
        "a.epub",
        lambda: book({"META-INF/container.xml": "<container/>"}),
        "damaged",
    ),
    "EPUB whose package is no XML": ("a.epub", lambda: book({"OPS/book.opf": "<a>"}), "damaged"),
    "EPUB with entities": ("a.epub", lambda: book({"OPS/book.opf": ENTITIES}), "no_text"),
    "EPUB with encrypted chapters": (
        "a.epub",
        lambda: book({"META-INF/encryption.xml": PROTECTED}),
        "encrypted",
    ),
    "page of scripts": ("a.html", lambda: page("<script>var x = 1</script>"), "no_text"),
    "page of links": ("a.html", lambda: page("<nav><a href=/x>x</a></nav>"), "no_text"),
    "page nested too deeply": ("a.html", lambda: page("<div>" * 50_000 + "x"), "too_deep"),
    "nested with wrong end tags": ("a.html", lambda: page("<div></x>" * 3_000 + "x"), "too_deep"),
    "nested in SVG": ("a.html", lambda: page("<svg>" + "<td>" * 20_000 + "x"), "too_deep"),
}

TEXTS: dict[str, tuple[str, Callable[[], bytes], str, str]] = {
    "HTML named .txt": ("a.txt", lambda: files.PAGE.encode(), "html", "# Sorting"),
    "PDF named .html": ("a.html", lambda: files.pdf([["Words here"]]), "pdf", "Words here"),
    "DOCX named .zip": ("a.zip", files.docx, "docx", "# Sorting"),
    "EPUB named .docx": ("a.docx", lambda: book({}), "epub", "Text of a."),
    "text without a suffix": ("README", lambda: b"Words", "text", "Words"),
    "byte order mark": ("a.txt", lambda: b"\xef\xbb\xbfWords", "text", "Words"),
    "UTF-16 with a mark": ("a.txt", lambda: "Grüße".encode("utf-16"), "text", "Grüße"),
    "HTML in declared cp1252": (
        "a.html",
        lambda: "<meta charset=windows-1252><p>Grüße – „Welt“</p>".encode("cp1252"),
        "html",
        "Grüße – „Welt“",
    ),
    "HTML in declared Shift JIS": (
        "a.html",
        lambda: '<meta content="text/html; charset=shift_jis"><p>日本語の文</p>'.encode(
            "shift_jis"
        ),
        "html",
        "日本語の文",
    ),
    "HTML in cp1252 without a declaration": (
        "a.html",
        lambda: "<p>Grüße</p>".encode("cp1252"),
        "html",
        "Grüße",
    ),
    "UTF-8 that declares cp1252": (
        "a.html",
        lambda: "<meta charset=windows-1252><p>Grüße</p>".encode(),
        "html",
        "Grüße",
    ),
    "unknown declared encoding": (
        "a.html",
        lambda: b"<meta charset=x-none><p>Words</p>",
        "html",
        "Words",
    ),
    "unclosed elements": ("a.html", lambda: page("<p>one<p>two<ul><li>three"), "html", "three"),
    "unclosed paragraphs": ("a.html", lambda: page("<p>word" * 5_000), "html", "word"),
    "unclosed comment": ("a.html", lambda: page("<p>Words</p><!-- open"), "html", "Words"),
    "PDF with an owner password": ("a.pdf", lambda: encrypted_pdf(""), "pdf", "Secret words"),
    "PDF whose table is elsewhere": (
        "a.pdf",
        lambda: files.pdf([["Words here"]]).replace(b"startxref\n", b"startxref\n9"),
        "pdf",
        "Words here",
    ),
    "PDF after other bytes": ("a.pdf", lambda: b"junk\n" + files.pdf([["Words"]]), "pdf", "Words"),
    "markdown that begins with HTML": ("a.md", lambda: b"<div>x</div>\n# T", "markdown", "# T"),
}


def result_of(tmp_path: Path, name: str, data: bytes) -> ExtractedDocument | ExtractionFailure:
    path = tmp_path / name
    path.write_bytes(data)
    (result,) = extract(path)
    return result


@pytest.mark.parametrize("case", FAILURES)
def test_a_file_without_usable_text_has_a_reason(tmp_path: Path, case: str) -> None:
    name, data, reason = FAILURES[case]
    result = result_of(tmp_path, name, data())
    assert isinstance(result, ExtractionFailure), result
    assert result.reason == reason
    assert result.message.startswith(f"{name}: ") and len(result.message) > len(name) + 10


@pytest.mark.parametrize("case", TEXTS)
def test_an_odd_file_is_read_by_its_content(tmp_path: Path, case: str) -> None:
    name, data, kind, text = TEXTS[case]
    result = result_of(tmp_path, name, data())
    assert isinstance(result, ExtractedDocument), result
    assert result.format == kind and text in result.text


def test_a_file_over_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("words " * 100)
    (result,) = extract(path, limits=ExtractionLimits(file_bytes=100))
    assert isinstance(result, ExtractionFailure) and result.reason == "too_large"
    assert "600" in result.message and "100" in result.message


def test_a_member_larger_than_it_states_is_refused(tmp_path: Path) -> None:
    size = 5_000_000
    data = files.archive({"[Content_Types].xml": "x", "word/document.xml": b"a" * size})
    lied = data.replace(size.to_bytes(4, "little"), (1_000).to_bytes(4, "little"))
    result = result_of(tmp_path, "a.docx", lied)
    assert isinstance(result, ExtractionFailure) and result.reason == "damaged"


@pytest.mark.parametrize("name", ["a.pdf", "a.docx", "a.epub", "a.html", "a.md"])
def test_damaged_files_never_raise(tmp_path: Path, name: str) -> None:
    whole = {
        "a.pdf": files.pdf([["Some words"], ["more of them"]]),
        "a.docx": files.docx(),
        "a.epub": book({}),
        "a.html": files.PAGE.encode(),
        "a.md": b"---\ntitle: x\n---\n# Head\ntext",
    }[name]
    draw = random.Random(7)
    for _ in range(12):
        data = bytearray(whole)
        for _ in range(draw.randrange(1, 20)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        cut = draw.randrange(len(data)) if draw.random() < 0.3 else len(data)
        assert result_of(tmp_path, name, bytes(data[:cut])) is not None
