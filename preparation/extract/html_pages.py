"""Text of HTML pages, without navigation, scripts and other boilerplate."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import unescape
from typing import Any

from preparation.extract.decoding import decode_html
from preparation.extract.document import (
    DEFAULT_LIMITS,
    ExtractedDocument,
    ExtractionError,
    ExtractionLimits,
)

_TAG = re.compile(r"<(/?)([a-zA-Z][^\s/>]{0,99})")
_VOID = frozenset(
    (
        *("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param"),
        *("source", "track", "wbr"),
    )
)
"""Elements without children (https://html.spec.whatwg.org/#void-elements)."""
_HREF = re.compile(
    r"<a\s[^<>]*?\bhref\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s>\"']+))", re.IGNORECASE
)
_HIDDEN = re.compile(
    r"<!--.*?(?:-->|\Z)|<(script|style)\b.*?(?:</\1\s*>|\Z)", re.IGNORECASE | re.DOTALL
)
_HEADING = re.compile(r"<h([1-6])\b[^<>]*>", re.IGNORECASE)
_HEADING_MARKS = "\ufdd1\ufdd2\ufdd3\ufdd4\ufdd5\ufdd6"
_CODE_START, _CODE_END = "\ufdd7`", "\ufdd8`"
"""Marks with a visible character: text of invisible ones alone is dropped."""
_ANY_MARK = re.compile("[\ufdd1-\ufdd6]|[\ufdd7\ufdd8]`?")
"""Noncharacters of Unicode: no text has them, and HTML parsers keep them."""
_LINK_LIST_SHARE = 0.8
"""A list whose text is links to this share is navigation."""
_SHALLOW_LEVELS = 3
"""Resiliparse takes every `<ul>` with fewer ancestors below the body for navigation."""
_MAX_LINKS = 10_000


def html_document(
    data: bytes, label: str, limits: ExtractionLimits = DEFAULT_LIMITS
) -> ExtractedDocument:
    """Return the main text of a page, with its title, language and links.

    Args:
        data: The page.
        label: Label of the file.
        limits: Limits of its nesting.

    Raises:
        ExtractionError: The page has no text, or is nested too deeply.
    """
    page, encoding = decode_html(data)
    text, title, metadata = html_text(page, limits=limits)
    return ExtractedDocument(label, "html", text, title, {**metadata, "encoding": encoding})


def html_text(
    page: str, main_content: bool = True, limits: ExtractionLimits = DEFAULT_LIMITS
) -> tuple[str, str, dict[str, Any]]:
    """Return the text of a page or fragment, its title, and its metadata.

    Args:
        page: HTML, such as a column of a table holds.
        main_content: Leave out navigation, headers, footers and other boilerplate.
        limits: Limits of its nesting.

    Raises:
        ExtractionError: It has no text, or is nested too deeply.
    """
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.html import HTMLTree

    tree = HTMLTree.parse(_with_marks(_without_link_lists(page) if main_content else page))
    if tree.body is not None:
        if _may_be_deep(page, limits):
            _check_depth(tree.body, limits)
        if main_content:
            _put_deeper(tree)
    text = extract_plain_text(tree, main_content=main_content, preserve_formatting=True)
    text = _marks_to_markdown(text.replace("\r\n", "\n").replace("\xa0", " "))
    if not text:
        raise ExtractionError(
            "no_text", "The page has no text outside scripts, navigation and boilerplate"
        )
    title = _ANY_MARK.sub("", " ".join((tree.title or "").split()))
    values = {"language": _language(tree), "links": _links(page)}
    return text, title, {key: value for key, value in values.items() if value}


def _may_be_deep(page: str, limits: ExtractionLimits) -> bool:
    """Return whether a page may exceed the limits, by an upper bound that is cheap to find.

    Tags in scripts and comments, and elements that the parser closes by itself, count as open.
    """
    depth = work = 0
    count_of: dict[str, int] = {}
    for match in _TAG.finditer(page):
        name = match[2].lower()
        if match[1] and count_of.get(name):
            count_of[name] -= 1
            depth -= 1
        elif not match[1] and name not in _VOID:
            count_of[name] = count_of.get(name, 0) + 1
            depth += 1
        work += depth
        if depth > limits.html_depth or work > limits.html_work:
            return True
    return False


def _check_depth(body: Any, limits: ExtractionLimits) -> None:
    """Check the nesting of a parsed page; the time of the extraction is quadratic in it.

    Raises:
        ExtractionError: It is nested too deeply.
    """
    from resiliparse.parse.html import traverse_dom

    work = 0

    def enter(context: Any) -> None:
        nonlocal work
        work += context.depth
        if context.depth > limits.html_depth:
            raise ExtractionError(
                "too_deep",
                f"The page nests more than {limits.html_depth:,} elements. It is no document for "
                "readers; leave it out",
            )
        if work > limits.html_work:
            raise ExtractionError(
                "too_deep", "The page has too many elements at too great a depth. Split it"
            )

    traverse_dom(body, enter, elements_only=True)


def _language(tree: Any) -> str:
    root = tree.document.query_selector("html")
    return str(root.getattr("lang") or root.getattr("xml:lang") or "") if root else ""


def _links(page: str) -> list[str]:
    """Return the targets of the links of a page, each once."""
    links: dict[str, None] = {}
    for match in _HREF.finditer(_HIDDEN.sub("", page)):
        target = unescape(next(filter(None, match.groups()), "")).strip()
        if target and not target.lower().startswith(("#", "javascript:", "data:")):
            links[target] = None
    return list(links)[:_MAX_LINKS]


def _with_marks(page: str) -> str:
    """Return the page with marks in headings and code blocks, which plain text would lose."""
    page = _ANY_MARK.sub("", page)
    page = _HEADING.sub(lambda match: match[0] + _HEADING_MARKS[int(match[1]) - 1], page)
    page = re.sub(r"<pre\b[^<>]*>\n?", lambda match: f"{match[0]}{_CODE_START}\n", page, flags=re.I)
    return re.sub(r"\n?</pre\s*>", lambda match: f"\n{_CODE_END}{match[0]}", page, flags=re.I)


def _marks_to_markdown(text: str) -> str:
    for level, mark in enumerate(_HEADING_MARKS, 1):
        text = re.sub(f"{mark}[ \\t]*(?=[^\\s\ufdd7])", "#" * level + " ", text)
    text = re.sub(rf"\n*{_CODE_START}\n*", "\n\n```\n", text)
    text = re.sub(rf"\n*{_CODE_END}\n*", "\n```\n\n", text)
    return _ANY_MARK.sub("", text).strip()


def _without_link_lists(page: str) -> str:
    """Return the page without lists that are links only: navigation, tables of contents."""
    lists: list[_OpenList] = []
    removed: list[tuple[int, int]] = []
    in_link = False
    at = 0
    for match in _TAG.finditer(page):
        if match.start() < at:  # inside the value of an attribute
            continue
        if lists:
            lists[-1].count("".join(page[at : match.start()].split()), in_link)
        at = page.find(">", match.end()) + 1
        if not at:
            break
        name = match[2].lower()
        if name == "a":
            in_link = not match[1]
        elif name == "ul" and not match[1]:
            lists.append(_OpenList(match.start()))
        elif name == "ul" and lists:
            closed = lists.pop()
            if closed.total and closed.linked >= _LINK_LIST_SHARE * closed.total:
                removed.append((closed.start, match.end()))
            elif lists:
                lists[-1].total += closed.total
                lists[-1].linked += closed.linked
    return _cut(page, removed)


@dataclass(slots=True)
class _OpenList:
    start: int
    total: int = 0
    linked: int = 0

    def count(self, text: str, in_link: bool) -> None:
        self.total += len(text)
        self.linked += len(text) if in_link else 0


def _cut(page: str, spans: list[tuple[int, int]]) -> str:
    parts = []
    at = 0
    for start, end in sorted(spans, key=lambda span: (span[0], -span[1])):
        if start >= at:
            parts.append(page[at:start])
            at = end
    return "".join([*parts, page[at:]])


def _put_deeper(tree: Any) -> None:
    """Put the content of the body deep enough that its lists are not taken for navigation."""
    inner = outer = tree.create_element("div")
    for _ in range(_SHALLOW_LEVELS - 1):
        wrapper = tree.create_element("div")
        wrapper.append_child(outer)
        outer = wrapper
    while tree.body.first_child is not None:  # resiliparse iterates its lists in quadratic time
        inner.append_child(tree.body.first_child)
    tree.body.append_child(outer)
