"""Errors of a record whose shape is unknown, or that a method should not train on."""

from __future__ import annotations

from collections.abc import Mapping

from training.config.data import ShapeName
from training.data.readers.records import SourceRecord, abbreviate
from training.data.schema.column_names import column_key
from training.data.schema.detection import WantedRows, is_judgment
from training.data.schema.rows import RowError
from training.errors import DataError

_MEDIA = frozenset({"image", "images", "audio", "audios", "video", "videos"})
_LISTED = 12
"""Maximum number of columns that an error message lists."""

KNOWN_SHAPES = (
    "text: text",
    "prompt and completion: prompt | question | instruction | input, and "
    "completion | expected completion | response | answer | output | target",
    "Alpaca: instruction, input, output",
    "messages: messages (a list of role and content), tools",
    "ShareGPT: conversations (a list of from and value), tools",
    "preferences: chosen, rejected, prompt (or messages, conversations)",
    "ranking: prompt, answers (a list), ranks (a list, or one for each dimension; 1 is the best)",
    "good or bad: prompt, completion (or messages), label (true or false)",
    "prompts: prompt, and maybe a reference answer",
)
"""Shapes as an error message lists them."""


def reject_unsuitable(shape: ShapeName, want: WantedRows, origin: str) -> None:
    """Raise if the method should not train on rows of this shape.

    Args:
        shape: Shape of the record.
        want: Kind of row that the method trains on.
        origin: Id of the record.

    Raises:
        DataError: The shape does not suit the method.
    """
    if want not in ("text", "dialogue"):
        fits = {"preference": ("preference", "ranking"), "unpaired": ("unpaired",)}.get(want)
        if fits and shape not in fits:
            chosen = "temper feedback DATA makes pairs of labels that choose between two answers. "
            raise DataError(
                f"{origin}: this method learns from {' or '.join(fits)} rows, found {shape}. "
                f"{chosen if want == 'preference' else ''}Known shapes:\n  "
                + "\n  ".join(KNOWN_SHAPES)
            )
        return
    if shape == "preference":
        raise DataError(
            f"{origin}: this is a set of preferences (chosen and rejected). Use a method that "
            "learns from them (dpo, reward), or train on the chosen answers alone: "
            "data.train.columns: {prompt: prompt, completion: chosen} (columns: {text: chosen} "
            "with shape: text when each holds a whole transcript)"
        )
    if shape == "ranking":
        raise DataError(
            f"{origin}: this is a set of ranked answers (answers and ranks). Train a reward model "
            "on it (method: {kind: reward}), or name a column of answers to learn"
        )
    if shape == "unpaired":
        raise DataError(
            f"{origin}: this is a set of good and bad answers (label true or false); trained on as "
            "it is, the model would learn the bad ones too. Use a method that learns from it (kto),"
            " or keep the good rows (or all, if the label means something else) and set "
            "data.train.shape: prompt_completion"
        )
    if shape == "prompt":
        raise DataError(
            f"{origin}: there are prompts but no answers to train on. "
            "Name the column that holds them: data.train.columns: {completion: YOUR_COLUMN}"
        )


def reject_labelled(
    shape: ShapeName, columns: Mapping[str, str], record: SourceRecord, want: WantedRows
) -> None:
    """Raise if conversations have good and bad labels and all of them would be trained on.

    Args:
        shape: Shape of the record.
        columns: Column of each part that the record has.
        record: Record of the source.
        want: Kind of row that the method trains on.

    Raises:
        DataError: The conversations are labelled.
    """
    label = columns.get("label")
    if want == "dialogue" and label and is_judgment(record.values[label], want):
        raise DataError(
            f"{record.origin}: these conversations are labelled good or bad ({label}: "
            f"{abbreviate(record.values[label])}); trained on as they are, the model would learn "
            f"the bad ones too. Keep the good ones (or all, if the label means something else) and "
            f"set data.train.shape: {shape}"
        )


def reject_media(record: SourceRecord) -> None:
    """Raise for a row with an image, audio or video, without which its answer has no basis.

    Raises:
        RowError: The row refers to media.
    """
    for name, value in record.values.items():
        if value and column_key(name) in _MEDIA:
            raise RowError(
                f"column {name} is not text ({abbreviate(value)}), and only text is trained on. "
                "Remove the row, or the column if the answer can be given without it"
            )


def list_columns(record: SourceRecord) -> str:
    """Return the names of a record's first columns, and the number of the others."""
    names = [abbreviate(name) for name in record.values]
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return (", ".join(names[:_LISTED]) or "(none)") + more


def unknown_shape_message(record: SourceRecord, columns: Mapping[str, str]) -> str:
    """Return the error message for a record whose columns fit no shape."""
    example = next((name for name in record.values if name not in columns.values()), "YOUR_COLUMN")
    return (
        f"{record.origin}: the columns fit no known shape. Columns found: "
        f"{list_columns(record)}. Known shapes:\n  "
        + "\n  ".join(KNOWN_SHAPES)
        + f"\nSay which column is which: data.train.columns: {{prompt: {example}, completion: …}} "
        f"or {{text: {example}}}"
    )
