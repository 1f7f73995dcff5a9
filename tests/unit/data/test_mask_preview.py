from __future__ import annotations

from transformers import PreTrainedTokenizerFast

from training.data.tokenization.domain_terms import measure_terms
from training.data.tokenization.encoder import Encoder
from training.data.tokenization.mask_preview import RowPreview, preview_row, render_text


def test_segments_follow_the_labels(qwen: PreTrainedTokenizerFast) -> None:
    encoder = Encoder(qwen)
    ids = qwen("the cat sat")["input_ids"]
    learned = qwen(" on a mat")["input_ids"]
    row = preview_row("a:1", ids + learned, [-100] * len(ids) + learned, encoder)
    assert row == RowPreview("a:1", (("the cat sat", False), (" on a mat", True)))


def test_what_is_learned_is_marked_for_eyes_and_for_files() -> None:
    rows = [RowPreview("a:1", (("question ", False), ("answer", True), (" more", False)))]
    assert "question ⟦answer⟧ more" in render_text(rows)
    assert "question \x1b[1;4manswer\x1b[0m more" in render_text(rows, ansi=True)


def test_long_rows_are_cut() -> None:
    rows = [RowPreview("a:1", (("q" * 50, False), ("a" * 50, True), ("never shown", False)))]
    text = render_text(rows, limit=60)
    assert "q" * 50 + "⟦" + "a" * 10 + " …⟧" in text and "never" not in text


def test_terms_in_many_pieces_are_warned_about(qwen: PreTrainedTokenizerFast) -> None:
    encoder = Encoder(qwen)
    assert measure_terms([], encoder) is None
    known = measure_terms(["capital", "the cat"], encoder)
    assert known is not None and known.warning() is None
    poor = measure_terms(["glomerulonephritis"], encoder)
    assert poor is not None and poor.fertility == poor.terms[0].per_word > 3
    assert "glomerulonephritis" in (poor.warning() or "")
    assert "".join(poor.terms[0].pieces).strip() == "glomerulonephritis"
