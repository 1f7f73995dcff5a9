"""`method:` what is learned. The union is the registry: a class names the code that builds it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from training.config.section import Section

RowKind = Literal["text", "dialogue", "preference", "unpaired", "prompt"]
Head = Literal["language", "score"]
"""What a model puts out: the next token, or one number for a text."""


class MethodSection(Section):
    """What every method declares."""

    impl: ClassVar[str]
    """`module:function` that builds its trainer, imported only when used."""
    rows: ClassVar[RowKind]
    """What kind of row it learns from."""
    title: ClassVar[str]
    """What it is called in a report."""
    head: ClassVar[Head] = "language"
    """What the model puts out."""

    @property
    def max_new_tokens(self) -> int:
        """Longest answer sampled from each prompt while training; 0 where none is."""
        return 0


class Pretrain(MethodSection):
    """Predict every next token of plain text: from random weights, or continued."""

    impl = "training.methods.pretrain:build"
    rows = "text"
    title = "Pre-training"

    kind: Literal["pretrain"]


class Sft(MethodSection):
    """Supervised fine-tuning on prompts and answers, or on conversations."""

    impl = "training.methods.sft:build"
    rows = "dialogue"
    title = "Supervised fine-tuning"

    kind: Literal["sft"]
    loss_on: Literal["assistant", "completion", "all"] = "assistant"
    """`assistant`: everything the assistant says. `completion`: its last answer only. `all`: the
    prompts too."""


Method = Annotated[Pretrain | Sft, Field(discriminator="kind")]
