"""Parser of a report page that checks the rules every page must follow."""

from __future__ import annotations

import re
from html.parser import HTMLParser

_VOID = {"meta", "br", "link", "img", "hr", "input"}
# Attributes by which a page loads or reaches something.
_REACHING = {"src", "href", "xlink:href", "srcset", "data", "action", "poster", "background"}


class Page(HTMLParser):
    """A parsed page: its text, its marked text, its ids and references.

    Raises:
        AssertionError: A tag is left open or closed out of turn.
    """

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.html = html
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.reached: list[str] = []
        self.labels: list[str] = []
        self.words: list[str] = []
        self.marked: list[str] = []
        self.headings: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open, f"left open: {self._open}"

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(tag, attrs)
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open[-1] == tag, f"</{tag}> closes {self._open[-3:]}"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            return
        self.words.append(data)
        if "mark" in self._open:
            self.marked.append(data)
        if self._open and self._open[-1] in ("h1", "h2", "h3"):
            self.headings.append(data)

    def _note(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            assert not name.startswith("on"), f"{tag} has a handler {name}"
            if name == "id":
                self.ids.append(str(value))
            if name == "aria-label":
                self.labels.append(str(value))
            if name in _REACHING:
                self.reached.append(str(value))
            for target in re.findall(r"url\((.*?)\)", value or ""):
                self.reached.append(target)


def read_page(html: str) -> Page:
    """Parse a page and check what must hold for every one of them."""
    page = Page(html)
    assert len(page.ids) == len(set(page.ids)), "two elements of one id"
    for target in page.reached:
        assert target.startswith("#"), f"reaches outside: {target}"
        assert target[1:] in page.ids, f"leads nowhere: {target}"
    for style in re.findall(r"<style.*?</style>", html, flags=re.S):
        assert "@import" not in style and "url(" not in style
    assert not {"script", "link", "iframe", "img", "object", "embed"} & set(page.tags)
    assert "default-src 'none'" in html
    return page
