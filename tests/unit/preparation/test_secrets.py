"""Secrets: recall by kind, false hits, spans, replacement, and a platform without betterleaks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import betterleaks._lib
import orjson
import pytest

from benchmarks.prepare.secret_formats import KINDS, document, secret
from benchmarks.prepare.secrets_in_code import FIRST_SEED, code_of_projects, recall
from benchmarks.training_runs import DATA
from preparation.config.split import Split
from preparation.ledger import Ledger
from preparation.report.notices import notices
from preparation.rows import PreparedRow
from preparation.step_runner import RowRecords, StepRunner
from preparation.steps.secrets.patterns import KINDS as PATTERN_KINDS
from preparation.steps.secrets.scanner import SecretScanner
from preparation.steps.secrets.section import SecretsStep
from preparation.steps.step import Rule

SEEDS = range(FIRST_SEED, FIRST_SEED + 100)


@pytest.fixture(scope="module")
def scanner() -> SecretScanner:
    return SecretScanner()


@pytest.fixture
def reduced_scanner(monkeypatch: pytest.MonkeyPatch) -> SecretScanner:
    """Return a scanner on a platform for which betterleaks has no library."""

    def fail() -> None:
        raise OSError("cannot open shared object file")

    monkeypatch.setattr(betterleaks._lib, "get_binding", fail)
    scanner = SecretScanner()
    with pytest.warns(UserWarning, match="cannot be loaded.*cannot open shared object"):
        assert scanner.rules == "patterns"
    return scanner


def _rule(action: Any = "report") -> Rule:
    rule = SecretsStep(step="secrets", action=action).build()
    assert isinstance(rule, Rule)
    return rule


def _text(text: str) -> PreparedRow:
    return PreparedRow("a:1", "a", "text", {"text": text})


def _called(arguments: dict[str, Any]) -> PreparedRow:
    function = {"name": "login", "arguments": json.dumps(arguments)}
    message = {"role": "assistant", "tool_calls": [{"type": "function", "function": function}]}
    return PreparedRow("a:1", "a", "messages", {"messages": [message]})


@pytest.mark.parametrize("kind", KINDS)
def test_recall_of_each_kind(scanner: SecretScanner, kind: str) -> None:
    assert recall(scanner, kind, SEEDS) >= 0.99


@pytest.mark.parametrize("kind", KINDS)
def test_recall_of_each_kind_without_betterleaks(reduced_scanner: SecretScanner, kind: str) -> None:
    assert recall(reduced_scanner, kind, SEEDS) >= (0.9 if kind == "password" else 0.99)


def test_each_kind_has_a_pattern() -> None:
    assert set(PATTERN_KINDS) == set(KINDS)


def test_betterleaks_finds_what_the_patterns_lack(
    scanner: SecretScanner, reduced_scanner: SecretScanner
) -> None:
    text = 'digitalocean = "dop_v1_' + "3f9a1c77e0b24d58" * 4 + '"'
    assert [span.kind for span in scanner.scan(text)] == ["digitalocean_pat"]
    assert reduced_scanner.scan(text) == []


def test_a_reduced_search_is_a_tag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(betterleaks._lib, "get_binding", lambda: 1 / 0)
    rule = _rule()
    with pytest.warns(UserWarning, match="instead of its 460 rules"):
        assert rule.examine(_text("hello")).tags == {"secret_rules": "patterns"}
    monkeypatch.undo()
    assert _rule().examine(_text("hello")).tags == {}


@pytest.mark.skipif(not Path(DATA).is_dir(), reason=f"{DATA} does not exist")
def test_false_hits_in_code(scanner: SecretScanner) -> None:
    texts = code_of_projects(DATA)
    lines = sum(text.count("\n") for text in texts)
    assert sum(len(scanner.scan(text)) for text in texts) <= 0.1 * lines / 1000


@pytest.mark.parametrize(
    "text",
    [
        "aws_access_key_id = AKIAIOSFODNN7EXAMPLE",
        'aws_secret_access_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"',
        "password = os.environ['DB_PASSWORD']",
        "password: ${DB_PASSWORD}",
        'password = "<your-password1>"',
        'connect(password="%s" % name)',
        "DATABASE_URL=postgresql://app:${PASSWORD}@db/orders",
        "Forgot your password? Passwords expire after 90 days.",
        "https://example.org:8443/a@b",
    ],
)
def test_examples_and_placeholders_are_no_secrets(scanner: SecretScanner, text: str) -> None:
    assert scanner.scan(text) == []


def test_spans_are_exact_after_other_alphabets_and_in_later_lines(scanner: SecretScanner) -> None:
    password = "k9#Wq72LmPz"
    text = f"Überschrift – 見出し\n\tпароль: {{password = '{password}'}} 終わり"
    (span,) = scanner.scan(text)
    assert text[span.start : span.end] == password


def test_a_value_that_is_also_in_its_name(scanner: SecretScanner) -> None:
    text = 'login("user7", "user7pass9")'
    (span,) = scanner.scan(text)
    assert text[span.start : span.end] == "user7pass9"


@pytest.mark.parametrize("character", ["\x00", "\ud800"])
def test_characters_that_end_a_c_string_or_have_no_encoding(
    scanner: SecretScanner, character: str
) -> None:
    text = f'dop{character} digitalocean = "dop_v1_' + "3f9a1c77e0b24d58" * 4 + '"'
    assert len(scanner.scan(text)) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_replacement_leaves_nothing_of_the_secret(kind: str) -> None:
    text, value = document(kind, FIRST_SEED)
    row = _text(text)
    examination = _rule("replace").examine(row)
    assert examination.texts is not None
    (replaced,) = examination.texts
    assert f"[SECRET_{kind.upper()}]" in replaced
    assert value not in replaced
    assert json.dumps(value)[1:-1] not in replaced
    assert value not in repr(examination.findings)
    assert row.columns == {"text": text}


def test_two_secrets_of_a_text_are_replaced() -> None:
    first, second = secret("github_token", 1), secret("slack_token", 2)
    examination = _rule("replace").examine(_text(f"use {first} or {second}."))
    assert examination.texts == ("use [SECRET_GITHUB_TOKEN] or [SECRET_SLACK_TOKEN].",)


def test_arguments_of_a_tool_call_are_judged_by_their_name_and_stay_json() -> None:
    row = _called({"user": "ann", "password": "k9#Wq72LmPz", "retries": 3})
    examination = _rule("replace").examine(row)
    assert examination.texts is not None
    changed = row.with_texts(examination.texts).columns["messages"][0]
    arguments = orjson.loads(changed["tool_calls"][0]["function"]["arguments"])
    assert arguments == {"user": "ann", "password": "[SECRET_PASSWORD]", "retries": 3}


def test_actions() -> None:
    row = _text(f"token {secret('stripe_key', 3)}")
    report, drop = (_rule(action).examine(row) for action in ("report", "drop"))
    assert (report.reasons, report.texts) == ((), None)
    assert [finding.kind for finding in report.findings] == ["stripe_key"]
    assert (drop.reasons, drop.texts) == (("secret",), None)
    assert _rule("drop").examine(_text("nothing here")).reasons == ()


@pytest.mark.parametrize("action", ["report", "replace", "drop"])
def test_the_account_of_a_preparation_never_holds_a_secret(action: Any) -> None:
    value = secret("github_token", 5)
    ledger, records = Ledger(), RowRecords([], [])
    runner = StepRunner([SecretsStep(step="secrets", action=action)], ledger, records)
    written = list(runner.run([_text(f"use {value} here")]))
    assert ledger.findings["secrets"] == {"github_token": 1}
    assert value not in f"{ledger.to_json()} {records}"
    assert len(written) == (action != "drop")


def test_the_report_says_when_fewer_rules_searched() -> None:
    tags = {"secret_rules: patterns": 1200, "language: en": 1200}
    (notice,) = notices(tags, {"train": 1200}, Split())
    assert notice.startswith("1,200 rows were searched for secrets with the patterns of this")
    row = PreparedRow("a:1", "a", "text", {"text": "b"}, tags={"secret_rules": "patterns"})
    ledger = Ledger()
    ledger.write(row)
    assert ledger.tags == {"secret_rules: patterns": 1}
