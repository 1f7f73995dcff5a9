"""Rankings by several annotators: agreement by published figures, and rows that training reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from feedback.ordinal import kendall_tau, ordinal_alpha, spearman_rho
from feedback.rankings import read_rankings
from temper.cli import main
from tests.factories import write_jsonl
from tests.run_commands import read_jsonl
from training.config.data import Source
from training.data.readers.records import SourceRecord
from training.data.schema.rows import RankingRow
from training.data.schema.schema_reader import SchemaReader
from training.errors import DataError

# Reliability data of Krippendorff 2011, section C: four observers, twelve units.
OBSERVERS = ("123321412...", "1233224125.3", ".3332342251.", "1233244125 1.".replace(" ", ""))


def row(who: str, ranks: Any, answers: tuple[str, ...] = ("a", "b", "c")) -> dict[str, Any]:
    return {"prompt": "p", "answers": list(answers), "ranks": ranks, "annotator": who}


def test_ordinal_alpha_is_the_published_one() -> None:
    units = [[float(v) for v in unit if v != "."] for unit in zip(*OBSERVERS, strict=True)]
    assert ordinal_alpha(units) == pytest.approx(0.815, abs=5e-4)
    assert ordinal_alpha([[1.0, 1.0]]) is None


@pytest.mark.parametrize(
    ("other", "tau", "rho"),
    [
        ([1.0, 2.0, 3.0, 4.0], 0.547723, 0.632456),
        ([4.0, 3.0, 2.0, 1.0], -0.547723, -0.632456),
        ([2.0, 1.0, 4.0, 4.0], 0.0, -0.055556),
        ([1.0, 1.0, 2.0, 2.0], 0.223607, 0.235702),
    ],
)
def test_rank_correlations_are_those_of_scipy(other: list[float], tau: float, rho: float) -> None:
    # kendalltau and spearmanr of SciPy 1.17.1.
    one = [1.0, 3.0, 2.0, 3.0]
    assert kendall_tau(one, other) == pytest.approx(tau, abs=1e-6)
    assert spearman_rho(one, other) == pytest.approx(rho, abs=1e-6)
    assert kendall_tau(one, [1.0] * 4) is None
    assert spearman_rho(one, [1.0] * 4) is None


def test_rankings_are_compared_in_any_order_and_learned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        row("one", {"help": [1, 2, 3], "harm": [1, 2, 3]}),
        row("two", {"help": [3, 2, 1], "harm": [1, 2, 3]}, ("c", "b", "a")),
        row("three", {"help": [1, 3, 2]}),
    ]
    files = str(write_jsonl(tmp_path / "ranks.jsonl", rows))
    assert main(["feedback", files, "--out", str(tmp_path / "out"), "--least-alpha", "0.1"]) == 4
    said = capsys.readouterr()
    assert "harm: 2 rankings, 1 comparisons of two annotators" in said.out
    assert "Kendall's tau -1.00" in said.out
    assert "alpha of harm is -" in said.err and "alpha of help" not in said.err
    (combined,) = read_jsonl(tmp_path / "out/rankings.jsonl")
    assert combined["answers"] == ["a", "b", "c"]
    assert combined["ranks"] == {"harm": [1, 1, 1], "help": [1, 2, 3]}
    reader = SchemaReader(Source(source="x"), "preference")
    learned = reader.read(SourceRecord("x:1", combined))
    assert isinstance(learned, RankingRow)
    assert sorted(pair[:2] for pair in learned.pairs) == [(0, 1), (0, 2), (1, 2)]


def test_every_ranking_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    rows = [row("one", [1, 2]), row("one", "best"), row("one", [1, 2, 3], ("a", "b", "A"))]
    with pytest.raises(DataError) as error:
        read_rankings([write_jsonl(tmp_path / "ranks.jsonl", rows)])
    for part in ("2 ranks of overall for 3", "not a list of numbers: best", "are the same"):
        assert part in str(error.value)
