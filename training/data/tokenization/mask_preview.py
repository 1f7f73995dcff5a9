"""Mask preview: decoded rows with the supervised text marked, to read before every run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from training.data.tokenization.encoder import Encoder
from training.data.tokenization.special_marks import mark_specials
from training.data.tokenization.token_rows import IGNORE

_OPEN, _CLOSE = "⟦", "⟧"


@dataclass(frozen=True)
class RowPreview:
    """Decoded row.

    Attributes:
        id: Id of the source row.
        segments: Text of the row in order, each segment with whether it is supervised.
        specials: Segment, start and stop of each special token in the text. Text that only looks
            like one consists of ordinary tokens and is not in the list.
    """

    id: str
    segments: tuple[tuple[str, bool], ...]
    specials: tuple[tuple[int, int, int], ...] = ()


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
    segments: list[tuple[str, bool]] = []
    specials: list[tuple[int, int, int]] = []
    names = encoder.special_tokens
    before, start = "", 0
    for learned, run in groupby(labels, key=lambda label: bool(label != IGNORE)):
        stop = start + sum(1 for _ in run)
        # Decoded from the start, because some decoders drop the leading space of a text.
        text = encoder.decode(input_ids[:stop])
        alone = encoder.decode(input_ids[start:stop])
        segment = text.removeprefix(before) if text.startswith(before) else alone
        spans = _special_spans(segment, input_ids[start:stop], names, encoder)
        specials += ((len(segments), *span) for span in spans)
        segments.append((segment, learned))
        before, start = text, stop
    return RowPreview(id_, tuple(segments), tuple(specials))


def _special_spans(
    text: str, ids: Sequence[int], names: dict[int, str], encoder: Encoder
) -> Iterator[tuple[int, int]]:
    """Yield the start and stop of each special token in a text.

    Args:
        text: Text of the ids.
        ids: Token ids.
        names: Special tokens by id.
        encoder: Encoder that decodes the ids.
    """
    at, start = 0, 0
    for index, id_ in enumerate(ids):
        name = names.get(int(id_))
        if name is None:
            continue
        # The same characters may stand before it as ordinary text, which is not the token.
        alike = encoder.decode(ids[start:index]).count(name) if index > start else 0
        found = at
        for _ in range(alike + 1):
            found = text.find(name, at)
            at = found + len(name)
            if found < 0:
                return
        yield found, at
        start = index + 1


def render_text(rows: Sequence[RowPreview], *, ansi: bool = False, limit: int = 1200) -> str:
    """Return previews as text for a terminal or a file.

    Args:
        rows: Decoded rows.
        ansi: Mark supervised text in bold and underlined rather than in ⟦brackets⟧.
        limit: Maximum characters of a row.
    """
    mark = ("\x1b[1;4m", "\x1b[0m") if ansi else (_OPEN, _CLOSE)
    lines = [
        f"What is learned is {'underlined' if ansi else 'in ⟦brackets⟧'}. Special tokens are in "
        "⟨angle brackets⟩; text that looks like one and is not has none."
    ]
    for row in rows:
        lines.append(f"\n── {row.id} " + "─" * max(0, 60 - len(row.id)))
        left = limit
        text = ""
        for segment, learned in mark_specials(row.segments, row.specials):
            shown = segment if len(segment) <= left else segment[: max(left, 0)] + " …"
            left -= len(segment)
            text += mark[0] + shown + mark[1] if learned else shown
            if left <= 0:
                break
        lines.append(text)
    return "\n".join(lines) + "\n"
