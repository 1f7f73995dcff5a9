"""The report of every kind of run, which must not load external resources."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from tests.unit.report.html_text import Page, read_page
from tests.unit.report.run_folders import DATA, JOB, MANIFEST, measured, step, write_run
from training.report.page import write_report


def report(folder: Path) -> Page:
    write_report(folder)
    return read_page((folder / "report.html").read_text(encoding="utf-8"))


def evaluated(before: float = 4.0, after: float = 2.0, **more: Any) -> dict[str, Any]:
    return {"before": measured(before, **more), "after": measured(after, **more)}


def test_a_finished_run_says_its_result_first(tmp_path: Path) -> None:
    page = report(write_run(tmp_path / "run", evaluation=evaluated()))
    assert page.headings[0] == "Held-out loss fell from 4.00 to 2.00 (−50 %)"
    assert (
        "Supervised fine-tuning with LoRA of tiny-llama on pairs.jsonl perplexity 54.6 → 7.4 "
        "20 steps 2,000 tokens 20 s CPU" in page.text
    )
    assert "✓ Finished" in page.text
    sections = ["Curves", "Before and after", "Supervised tokens", "Data"]
    assert [h for h in page.headings if h in sections] == sections


def test_a_loss_that_rose_is_not_called_better(tmp_path: Path) -> None:
    page = report(write_run(tmp_path / "run", evaluation=evaluated(2.0, 4.0)))
    assert page.headings[0] == "Held-out loss rose from 2.00 to 4.00 (+100 %)"
    assert 'class="n worse"' in page.html
    assert 'class="n better"' not in page.html


def test_forgetting_is_told_and_its_absence_too(tmp_path: Path) -> None:
    general = {"loss": 3.0, "perplexity": 20.0, "tokens": 10.0}
    forgot = {
        "before": measured(4.0, forgetting=general),
        "after": measured(2.0, forgetting={**general, "loss": 3.6}),
    }
    page = report(write_run(tmp_path / "forgot", evaluation=forgot))
    assert "Catastrophic forgetting: the loss on general text rose by 20.0 %." in page.text
    page = report(write_run(tmp_path / "kept", evaluation=evaluated(forgetting=general)))
    assert "No forgetting" in page.text


def test_the_mask_is_marked_by_more_than_colour(tmp_path: Path) -> None:
    page = report(write_run(tmp_path / "run"))
    assert page.marked == ["Underlined tokens are supervised", "Say that"]
    assert "mark {" in page.html and "text-decoration: underline" in page.html


def test_answers_stand_side_by_side(tmp_path: Path) -> None:
    evaluation = {
        "before": measured(4.0, samples=[{"prompt": "Who?", "answer": "owl owl owl"}]),
        "after": measured(2.0, samples=[{"prompt": "Who?", "answer": ""}]),
    }
    page = report(write_run(tmp_path / "run", evaluation=evaluation))
    assert "Who? Before training owl owl owl After training Empty answer." in page.text


def test_data_terms_and_facts_are_there(tmp_path: Path) -> None:
    page = report(write_run(tmp_path / "run"))
    for words in (
        *("12,345", "6,789", "11,111", "the answer is empty", "photosynthesis", "photo synthesis"),
        *("Look at the rows", "chatml", "260k, of which 8.96k trainable", "c0ffee", "torch 2.13.0"),
        *(
            "8 = 4 (rows) × 1 (devices) × 2 (accumulation)",
            "aaaa",
            "bbbb",
            "cccc",
            "2026-03-01 10:00 UTC",
        ),
    ):
        assert words in page.text, words
    assert "deepspeed" not in page.text
    assert "The job with all defaults name: tiny" in page.text


def test_plan_stands_against_measurement(tmp_path: Path) -> None:
    plan = {"predicted": {"memory_gib": 0.4, "seconds": 10, "cost_usd": 1.25}}
    page = report(write_run(tmp_path / "run", plan=plan))
    assert "memory 0.40 GiB 0.50 GiB +25 %" in page.text
    assert "seconds 10 s 20 s +100 %" in page.text
    assert "cost 1.25 USD – –" in page.text


def test_a_run_with_nothing_held_out_and_no_samples(tmp_path: Path) -> None:
    data = {**DATA, "rows_validation": 0}
    page = report(write_run(tmp_path / "run", evaluation={"before": {}, "after": {}}, data=data))
    assert page.headings[0] == "Training loss fell from 3.85 to 2.05 (−47 %); no rows were held out"
    assert "Before and after" not in page.headings
    assert "Answers before and after" not in page.headings


def test_a_failed_run_says_so_at_the_top(tmp_path: Path) -> None:
    page = report(
        write_run(
            tmp_path / "run",
            state="failed",
            message="loss is NaN at step 7. Lower it",
            rows=[step(n, 4.0) for n in range(1, 7)],
            evaluation={"before": measured(4.0)},
        )
    )
    top = page.html.index("This run failed:")
    assert page.html.index("<h1>") < top < page.html.index("<svg")
    assert "loss is NaN at step 7. Lower it" in page.text
    assert page.headings[0] == "Failed after 6 of 20 steps"
    assert "Training loss did not change: it went from 4.00 to 4.00 (0.0 %)" in page.text
    assert "✕ Failed" in page.text


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("stopped", "This run was stopped before it finished."),
        ("running", "This run has not finished"),
    ],
)
def test_an_unfinished_run_says_so(tmp_path: Path, state: str, words: str) -> None:
    assert words in report(write_run(tmp_path / "run", state=state)).text


def test_a_run_of_one_step(tmp_path: Path) -> None:
    page = report(write_run(tmp_path / "run", rows=[step(1, 3.0)], manifest={}))
    assert page.headings[0] == "Training loss 3.0000 at the only logged step"
    assert "· 1 step" not in page.text and "1 step 100 tokens" in page.text


def test_a_run_that_failed_before_its_first_step(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    write_run(folder, state="failed", message="no rows", rows=[], manifest={}, data={})
    (folder / "metrics.jsonl").unlink()
    page = report(folder)
    assert page.headings[0] == "Failed before its first step"
    assert "no rows" in page.text
    assert "svg" not in page.tags


def test_an_empty_folder_still_makes_a_page(tmp_path: Path) -> None:
    assert "Not started" in report(tmp_path).text


def test_values_that_are_no_numbers_are_shown_as_what_they_are(tmp_path: Path) -> None:
    rows = [step(n, math.nan if n in (4, 5) else 3.0, grad_norm=math.inf) for n in range(1, 9)]
    evaluation = {"before": measured(4.0), "after": measured(math.nan)}
    page = report(write_run(tmp_path / "run", rows=rows, evaluation=evaluation))
    assert page.headings[0] == "Held-out loss went from 4.0000 to NaN"
    assert "Training loss was NaN or infinite at 2 steps, first 4" in page.text
    # Not one finite norm: no curve of it.
    assert not [label for label in page.labels if label.startswith("Gradient norm")]


def test_html_in_the_data_stays_text(tmp_path: Path) -> None:
    evil = "</pre><script>alert(1)</script><img src=x onerror=alert(2)>&amp; {{ 7*7 }} $x^2$"
    evaluation = {
        when: measured(1.0, samples=[{"prompt": evil, "answer": evil}])
        for when in ("before", "after")
    }
    data = {
        **DATA,
        "warnings": [evil],
        "dropped_reasons": {evil: 1},
        "template": evil,
        "mask_preview": [{"id": evil, "segments": [[evil, True], [evil, False]]}],
        "terms": {"terms": [{"term": evil, "pieces": [evil], "per_word": 1.0}], "fertility": 1.0},
    }
    rows = [step(1, 1.0, **{evil: 1.0}), step(2, 1.0, **{evil: 2.0})]
    manifest = {**MANIFEST, "commit": evil, "packages": {evil: evil}}
    job = JOB.replace("name: tiny", f"name: {json.dumps(evil)}")
    page = report(
        write_run(
            tmp_path / "run",
            state="failed",
            message=evil,
            rows=rows,
            evaluation=evaluation,
            data=data,
            manifest=manifest,
            job=job,
        )
    )
    # The name, the message, both sides of the sample, the preview: each one whole, as text.
    assert "".join(page.words).count(evil) >= 12
    assert evil.replace("_", " ") in "".join(page.words)


def test_addresses_in_the_data_are_not_links(tmp_path: Path) -> None:
    segments = [["see https://example.org/a.css url(//example.org/x)", True]]
    page = report(
        write_run(
            tmp_path / "run", data={**DATA, "mask_preview": [{"id": "1", "segments": segments}]}
        )
    )
    assert page.html.count("//") == page.text.count("//") == 2


def test_long_answers_and_rows_are_cut_with_a_note(tmp_path: Path) -> None:
    long = "words" * 20_000
    side = measured(1.0, samples=[{"prompt": "p", "answer": long}])
    preview = [{"id": "1", "segments": [["a" * 3000, False], ["b" * 3000, True], ["c" * 50, True]]}]
    data = {**DATA, "mask_preview": preview}
    page = report(
        write_run(tmp_path / "run", evaluation={"before": side, "after": side}, data=data)
    )
    assert page.text.count("… 96,000 more characters") == 2
    assert "… 2,050 more characters" in page.text
    assert "b" * 1000 in page.marked
    assert len(page.html) < 200_000


def test_a_run_of_many_steps_stays_small(tmp_path: Path) -> None:
    rows = [step(n, 5.0 - n / 5000 + (3 if n == 12_345 else 0)) for n in range(1, 20_001)]
    page = report(write_run(tmp_path / "run", rows=rows))
    assert len(page.html) < 400_000
    # The one spike among twenty thousand steps is still said.
    assert any("and 5.5310" in label for label in page.labels), page.labels


def test_a_resume_counts_its_time_on_top(tmp_path: Path) -> None:
    rows = [step(1, 3.0, seconds=50.0), step(2, 3.0, seconds=60.0), step(3, 3.0, seconds=20.0)]
    manifest = {**MANIFEST, "resumed": ["2026-03-01T11:00:00Z"]}
    page = report(write_run(tmp_path / "run", rows=rows, manifest=manifest))
    assert "1 min 20 s" in page.text
    assert "Resumed 2026-03-01 11:00 UTC" in page.text


def test_measures_of_a_method_get_curves_too(tmp_path: Path) -> None:
    rows = [step(n, 1.0, **{"rewards/margins": n / 10}) for n in range(1, 9)]
    page = report(write_run(tmp_path / "run", rows=rows))
    assert any(label.startswith("rewards/margins: 0.1000 at step 1") for label in page.labels)


def test_the_same_folder_makes_the_same_page(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", evaluation=evaluated())
    write_report(folder)
    first = (folder / "report.html").read_bytes()
    write_report(folder)
    assert (folder / "report.html").read_bytes() == first
    assert not list(folder.glob(".report*"))


def test_torn_files_are_passed_over(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 21, "lo')
    (folder / "data.json").write_text('{"sources": [')
    assert "20 steps" in report(folder).text


PIPELINE = """\
name: life
stages:
- {name: teach, method: {kind: pretrain}}
- {name: align, method: {kind: dpo}}
- {name: polish, method: {kind: sft}}
"""


def test_a_pipeline_is_one_page_with_a_section_per_stage(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    write_run(folder, job=PIPELINE, state="failed", message="margins vanished", rows=[])
    write_run(folder / "stages/01-teach", evaluation=evaluated())
    # Killed with its pipeline: nobody wrote into the stage's own status.
    write_run(folder / "stages/02-align", state="running", evaluation={"before": measured(1.0)})
    page = report(folder)
    assert page.headings[0] == "1 of 3 stages finished"
    assert [h for h in page.headings if h[0].isdigit()] == [
        *("1 of 3 stages finished", "1. teach", "2. align", "3. polish"),
    ]
    assert "teach → align → polish" in page.text
    assert "margins vanished" in page.text
    assert "2. align ✕ Failed after 20 steps" in page.text
    assert "3. polish ○ Not started" in page.text
