"""Mask preview: decoded rows with the supervised text marked, to read before every run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from training.data.tokenization.encoder import Encoder
from training.data.tokenization.token_rows import IGNORE

_OPEN, _CLOSE = "⟦", "⟧"


@dataclass(frozen=True)
class RowPreview:
    """Decoded row.

    Attributes:
        id: Id of the source row.
        segments: Text of the row in order, each segment with whether it is supervised.
    """

    id: str
    segments: tuple[tuple[str, bool], ...]


def preview_row(
    id_: str, input_ids: Sequence[int], labels: Sequence[int], encoder: Encoder
) -> RowPreview:
    """Decode a row into segments of supervised and unsupervised text.

    Args:
        id_: Id of the row.
        input_ids: Token ids.
        labels: Labels.
        encoder: Encoder that decodes the ids.
    """
    segments = []
    before, start = "", 0
    for learned, run in groupby(labels, key=lambda label: bool(label != IGNORE)):
        stop = start + sum(1 for _ in run)
        # Decoded from the start, because some decoders drop the leading space of a text.
        text = encoder.decode(input_ids[:stop])
        alone = encoder.decode(input_ids[start:stop])
        segments.append((text.removeprefix(before) if text.startswith(before) else alone, learned))
        before, start = text, stop
    return RowPreview(id_, tuple(segments))


def render_text(rows: Sequence[RowPreview], *, ansi: bool = False, limit: int = 1200) -> str:
    """Return previews as text for a terminal or a file.

    Args:
        rows: Decoded rows.
        ansi: Mark supervised text in bold and underlined rather than in ⟦brackets⟧.
        limit: Maximum characters of a row.
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
