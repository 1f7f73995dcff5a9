"""A few rows as the model will see them, with what is learned marked: read it before every run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from training.data.tokenization.encoder import Encoder
from training.data.tokenization.row_tokenizer import IGNORE

_OPEN, _CLOSE = "⟦", "⟧"


@dataclass(frozen=True)
class RowPreview:
    """A decoded row.

    Attributes:
        id: The source row.
        segments: Its text in order, each part with whether it is learned.
    """

    id: str
    segments: tuple[tuple[str, bool], ...]


def preview_row(
    id_: str, input_ids: Sequence[int], labels: Sequence[int], encoder: Encoder
) -> RowPreview:
    """Decode a row, parted where learning begins and ends."""
    segments = []
    before, start = "", 0
    for learned, run in groupby(labels, key=lambda label: bool(label != IGNORE)):
        stop = start + sum(1 for _ in run)
        # Decoded from the beginning, for some decoders drop the space a text begins with.
        text = encoder.decode(input_ids[:stop])
        alone = encoder.decode(input_ids[start:stop])
        segments.append((text.removeprefix(before) if text.startswith(before) else alone, learned))
        before, start = text, stop
    return RowPreview(id_, tuple(segments))


def render_text(rows: Sequence[RowPreview], *, ansi: bool = False, limit: int = 1200) -> str:
    """Return previews for a terminal or a file.

    Args:
        rows: What to show.
        ansi: Mark what is learned by bold and underlined type; else by ⟦brackets⟧.
        limit: Characters shown of a row.
    """
    mark = ("\x1b[1;4m", "\x1b[0m") if ansi else (_OPEN, _CLOSE)
    lines = [f"What is learned is {'underlined' if ansi else 'in ⟦brackets⟧'}."]
    for row in rows:
        lines.append(f"\n── {row.id} " + "─" * max(0, 60 - len(row.id)))
        left = limit
        text = ""
        for segment, learned in row.segments:
            shown = segment if len(segment) <= left else segment[: max(left, 0)] + " …"
            left -= len(segment)
            text += mark[0] + shown + mark[1] if learned else shown
            if left <= 0:
                break
        lines.append(text)
    return "\n".join(lines) + "\n"
