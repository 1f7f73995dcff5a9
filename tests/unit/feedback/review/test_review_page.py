"""The review page, served for real: judgements, sides, sessions, refusals."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import httpx2
import pytest

from feedback.analysis import analyze
from feedback.readers import read_labels
from tests.run_commands import ROOT, read_jsonl

PAIRS = [
    {
        "prompt": f"Question {number}?",
        "answer_a": f"<b>good</b> answer {number}",
        "answer_b": f"poor answer {number}",
        **({"gold": "a"} if number % 12 == 0 else {}),
    }
    for number in range(60)
]


class Server:
    """A running `temper review`."""

    def __init__(self, folder: Path, *options: str):
        self.labels = folder / "labels.jsonl"
        pairs = folder / "pairs.jsonl"
        pairs.write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
        command = [sys.executable, "-m", "temper", "review", str(pairs), "--port", "0", *options]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().split()[-1]

    def end(self) -> None:
        self.process.terminate()
        self.process.communicate()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path, "--overlap", "1.0")
    yield server
    server.end()


class Person:
    """A person with a browser."""

    def __init__(self, server: Server, name: str, key: str = ""):
        self.client = httpx2.Client(base_url=server.url, follow_redirects=True)
        self.page = self.client.post("/enter", data={"name": name, "key": key}).text

    def field(self, name: str) -> str:
        return re.findall(rf'name="{name}" value="([^"]*)"', self.page)[0]

    @property
    def sides(self) -> tuple[str, str]:
        left, right = re.findall(r'<div class="text">(.*?)</div>', self.page, re.DOTALL)
        return unescape(left), unescape(right)

    @property
    def is_done(self) -> bool:
        return 'id="judgement"' not in self.page

    def judge(self, choice: str, **fields: str) -> httpx2.Response:
        hidden = {name: self.field(name) for name in ("token", "pair", "shown")}
        response = self.client.post("/label", data={**hidden, "choice": choice, **fields})
        self.page = response.text
        return response


def test_what_people_choose_is_what_feedback_reads(server: Server) -> None:
    draw = random.Random(3)
    people = [Person(server, name) for name in ("Ada", "Grace", "Left")]
    while not all(person.is_done for person in people):
        for person, name in zip(people, ("Ada", "Grace", "Left"), strict=True):
            if person.is_done:
                person.page = person.client.get("/").text
                continue
            good = "left" if "good" in person.sides[0] else "right"
            poor = "right" if good == "left" else "left"
            choice = "left" if name == "Left" else (good if draw.random() < 0.9 else poor)
            assert person.judge(choice).status_code == 200
    lines = read_jsonl(server.labels)
    assert {line["prompt"] for line in lines} == {pair["prompt"] for pair in PAIRS}
    by_pair = Counter(line["pair"] for line in lines)
    assert min(by_pair.values()) >= 2  # overlap 1: everything is judged twice
    assert max(by_pair.values()) <= 3
    sides = Counter(line["shown_first"] for line in lines)
    assert 0.35 < sides["a"] / len(lines) < 0.65

    analysis = analyze(read_labels([server.labels]).labels, [])
    flagged = {one.name for one in analysis.annotators if one.flags}
    assert flagged == {"Left"}


def test_texts_are_shown_as_text_and_models_are_not_named(server: Server) -> None:
    person = Person(server, "Ada")
    assert any("<b>good</b>" in side for side in person.sides)
    assert "<b>good" not in person.page
    assert "answer_a" not in person.page
    headers = person.client.get("/").headers
    assert "default-src 'none'" in headers["content-security-policy"]


def test_a_judgement_can_be_taken_back_and_is_not_counted_twice(server: Server) -> None:
    person = Person(server, "Ada")
    first, token = person.field("pair"), person.field("token")
    form = {"token": token, "pair": first, "choice": "tie", "comment": "same", "reason clear": "1"}
    for _ in range(2):  # a double click
        person.client.post("/label", data=form)
    (line,) = read_jsonl(server.labels)
    assert (line["choice"], line["comment"], line["reasons"]) == ("tie", "same", ["clear"])
    person.page = person.client.post("/back", data={"token": token}).text
    assert read_jsonl(server.labels) == []
    assert person.field("pair") == first


def test_a_pair_that_nobody_can_judge_is_recorded_without_a_choice(server: Server) -> None:
    person = Person(server, "Ada")
    skipped = person.field("pair")
    person.judge("skip")
    (line,) = read_jsonl(server.labels)
    assert line["choice"] == "" and person.field("pair") != skipped


def test_forms_of_other_sites_and_other_names_are_refused(server: Server) -> None:
    person = Person(server, "Ada")
    data = {"pair": person.field("pair"), "choice": "left", "token": "0" * 64}
    assert person.client.post("/label", data=data).status_code == 403
    plain = httpx2.Client(base_url=server.url)
    assert plain.post("/label", data=data).status_code == 403
    forged = {"cookie": "temper_review=Ada." + "0" * 64}
    assert "Your name" in plain.get("/", headers=forged).text
    assert plain.get("/", headers={"host": "evil.example"}).status_code == 400
    assert plain.post("/enter", data={"name": "<script>"}).status_code == 400
    assert not server.labels.read_text()


def test_two_people_do_not_have_the_same_pair_open(server: Server) -> None:
    ada, grace = Person(server, "Ada"), Person(server, "Grace")
    assert ada.field("pair") != grace.field("pair")
    assert ada.client.get("/").text.count(ada.field("pair")) == 1  # a reload keeps it


def test_a_second_server_and_another_address_without_a_key_are_refused(server: Server) -> None:
    def fails(*options: str) -> str:
        pairs = server.labels.with_name("pairs.jsonl")
        command = [sys.executable, "-m", "temper", "review", str(pairs), "--port", "0", *options]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode in (2, 4) and "Traceback" not in done.stderr
        return done.stderr

    assert "is open in another review" in fails()
    assert "needs a key" in fails("--host", "0.0.0.0")
    assert "--overlap: is a share from 0 to 1" in fails("--overlap", "20")


def test_a_key_is_asked_for(tmp_path: Path) -> None:
    server = Server(tmp_path, "--key", "open")
    try:
        assert "The key is wrong" in Person(server, "Ada", "guess").page
        assert 'id="judgement"' in Person(server, "Ada", "open").page
    finally:
        server.end()


def test_a_restarted_review_resumes(tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []
    for _ in range(2):
        server = Server(tmp_path)
        person = Person(server, "Ada")
        for _ in range(3):
            person.judge("left")
        server.end()
        seen = read_jsonl(server.labels)
    assert len({line["pair"] for line in seen}) == len(seen) == 6
