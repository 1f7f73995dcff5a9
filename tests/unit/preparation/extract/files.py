"""Raw files with known text, made without the libraries that read them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence

PAGE = """<!doctype html><html lang="de"><head><meta charset="utf-8"><title> A  page </title>
<script>var hidden = "script text";</script><style>p { color: red }</style></head><body>
<nav><ul><li><a href="/home">Go home</a></li><li><a href="/shop">Shop</a></li></ul></nav>
<header id="header">Site banner</header>
<main><h1>Sorting</h1><p>Some <b>bold</b> text &amp; a <a href="https://x.org/a?b=1&amp;c=2">link</a>
with words enough to be the content of this page, as a reader would see it.</p>
<h2>Steps</h2><ul><li>First one opens the box.</li><li>Then one closes it.</li></ul>
<table><tr><th>Name<th>Count<tr><td>apple<td><table><tr><td>seven</table></table>
<pre><code>def f(x):
    return x &lt; 2
</code></pre><noscript>Please enable scripts</noscript></main>
<footer>Imprint and cookies</footer></body></html>"""


def pdf(pages: Sequence[Sequence[str]], image: bool = False) -> bytes:
    """Return a PDF file with lines of text on its pages, or with an image on each."""
    objects = ["<< /Type /Catalog /Pages 2 0 R /Lang (en) >>", ""]
    kids = []
    font = "<< /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >>"
    for lines in pages:
        shown = "".join(f"({line}) Tj 0 -14 Td " for line in lines)
        stream = f"BT /F1 12 Tf 72 720 Td {shown}ET" if lines else ""
        resources = f"/Font {font}"
        if image:
            pixel = "<< /Subtype /Image /Width 1 /Height 1 /BitsPerComponent 8 "
            objects.append(f"{pixel}/ColorSpace /DeviceGray /Length 1 >>\nstream\n0\nendstream")
            resources = f"/XObject << /I1 {len(objects)} 0 R >>"
            stream = "/I1 Do"
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
        page = f"/Contents {len(objects)} 0 R /MediaBox [0 0 612 792]"
        objects.append(f"<< /Type /Page /Parent 2 0 R {page} /Resources << {resources} >> >>")
        kids.append(f"{len(objects)} 0 R")
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>"
    objects.append("<< /Title (Known title) /Author (A. Writer) >>")
    out = io.BytesIO(b"%PDF-1.4\n")
    out.seek(0, io.SEEK_END)
    offsets = []
    for number, body in enumerate(objects, 1):
        offsets.append(out.tell())
        out.write(f"{number} 0 obj\n{body}\nendobj\n".encode("latin-1"))
    start = out.tell()
    entries = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    out.write(f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{entries}".encode())
    trailer = f"/Size {len(objects) + 1} /Root 1 0 R /Info {len(objects)} 0 R"
    out.write(f"trailer << {trailer} >>\nstartxref\n{start}\n%%EOF".encode())
    return out.getvalue()


def archive(members: Mapping[str, str | bytes]) -> bytes:
    """Return a ZIP archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in members.items():
            target.writestr(name, content)
    return out.getvalue()


def epub_members() -> dict[str, str | bytes]:
    """Return the members of a book whose spine has another order than its files."""
    container = (
        '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
        '<rootfile full-path="OPS/book.opf" media-type="application/oebps-package+xml"/>'
        "</rootfiles></container>"
    )
    items = "".join(
        f'<item id="{name}" href="text/{name}.xhtml" media-type="application/xhtml+xml"/>'
        for name in ("a", "b", "notes")
    )
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf"><metadata '
        'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>The book</dc:title>'
        "<dc:creator>A. Writer</dc:creator><dc:language>en</dc:language></metadata>"
        f'<manifest>{items}</manifest><spine><itemref idref="b"/><itemref idref="a"/>'
        '<itemref idref="notes" linear="no"/></spine></package>'
    )
    chapters: dict[str, str | bytes] = {
        f"OPS/text/{name}.xhtml": f"<html><body><h1>{name}</h1><p>Text of {name}.</p></body></html>"
        for name in ("a", "b", "notes")
    }
    return {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": container,
        "OPS/book.opf": package,
        **chapters,
    }


def docx() -> bytes:
    """Return a Word file with headings, a list, tables, and text under review."""
    import docx as library
    from docx.oxml import parse_xml

    document = library.Document()
    document.core_properties.title = "Known title"
    document.core_properties.author = "A. Writer"
    document.add_heading("Sorting", 1)
    document.add_paragraph("Some text.")
    document.add_paragraph("One", style="List Bullet")
    document.add_paragraph("Two", style="List Bullet")
    table = document.add_table(2, 2)
    for cell, text in zip(table._cells, ("Name", "Count", "a|b", "7"), strict=True):
        cell.text = text
    space = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    reviewed = (
        f"<w:p {space}><w:r><w:t>kept</w:t></w:r><w:ins><w:r><w:t> inserted</w:t></w:r></w:ins>"
        "<w:del><w:r><w:delText> deleted</w:delText></w:r></w:del></w:p>"
    )
    field = "<w:p><w:r><w:t>field</w:t></w:r></w:p>"
    control = f"<w:sdt {space}><w:sdtContent>{field}</w:sdtContent></w:sdt>"
    for xml in (reviewed, control):
        document.element.body.insert(len(document.element.body) - 1, parse_xml(xml))
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()
