"""The report in a real browser: nothing is wider than the screen, print fits, no request leaves."""

from __future__ import annotations

import http.server
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.report.run_folders import DATA, measured, write_run
from training.report.page import write_report

_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((found for name in _NAMES if (found := shutil.which(name))), None)

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium here (Debian: apt-get install chromium-headless-shell)"
)

# Loads the page in a frame of a phone's width and writes down what sticks out of it.
_FRAME = """<!DOCTYPE html><html><head><title>measuring</title></head><body>
<iframe id="page" src="report.html" width="WIDTH" height="800" style="border:0"></iframe>
<script>
document.getElementById("page").onload = (event) => {
  const inner = event.target.contentDocument, width = event.target.clientWidth;
  const wide = [...inner.querySelectorAll("body *")]
    .filter(e => !e.closest("svg") && !e.closest(".wide thead") && e.getBoundingClientRect().width)
    .filter(e => e.getBoundingClientRect().right > width + 1)
    .map(e => e.tagName + "." + e.className);
  const mark = inner.defaultView.getComputedStyle(inner.querySelector("mark"));
  document.title = JSON.stringify({
    width: inner.documentElement.scrollWidth, wide,
    underlined: mark.textDecorationLine,
    headings: inner.querySelectorAll("h1, h3").length,
    curve: inner.querySelector("figure svg").getBoundingClientRect().height,
  });
};
</script></body></html>"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str, list[str]]]:
    """A report of long words, served here; with the address and a list of what was asked for."""
    folder = tmp_path_factory.mktemp("served")
    long = "unbreakable" * 60
    side = measured(1.0, samples=[{"prompt": f"What is {long}?", "answer": long}])
    preview = [{"id": long, "segments": [[long, False], [long, True]]}]
    data = {**DATA, "mask_preview": preview, "warnings": [long], "dropped_reasons": {long: 3}}
    write_run(folder, evaluation={"before": side, "after": side}, data=data)
    write_report(folder)
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object):
            super().__init__(*arguments, directory=str(folder))  # type: ignore[arg-type]

        def log_message(self, format: str, *arguments: object) -> None:
            asked.append(self.path)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()


def browse(*arguments: str) -> str:
    assert CHROMIUM is not None
    command = [
        *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
        *(
            "--disable-background-networking",
            "--hide-scrollbars",
            "--virtual-time-budget=8000",
            *arguments,
        ),
    ]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_sticks_out(served: tuple[Path, str, list[str]], width: int) -> None:
    folder, address, asked = served
    asked.clear()
    (folder / "frame.html").write_text(_FRAME.replace("WIDTH", str(width)))
    page = browse("--dump-dom", f"{address}/frame.html")
    title = re.search(r"<title>(.*?)</title>", page)
    assert title is not None
    found = json.loads(title[1])
    assert found["wide"] == []
    assert found["width"] == width
    assert found["underlined"] == "underline"
    assert found["headings"] >= 7
    assert found["curve"] > 100
    assert set(asked) <= {"/frame.html", "/report.html", "/favicon.ico"}


def test_it_prints(served: tuple[Path, str, list[str]], tmp_path: Path) -> None:
    folder, _, _ = served
    out = tmp_path / "report.pdf"
    browse("--no-pdf-header-footer", f"--print-to-pdf={out}", (folder / "report.html").as_uri())
    pdf = out.read_bytes()
    pages = re.search(rb"/Type\s*/Pages\b.*?/Count (\d+)", pdf, re.S)
    assert pdf.startswith(b"%PDF")
    assert pages is not None and 2 <= int(pages[1]) <= 8
