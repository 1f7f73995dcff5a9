"""Facts by which rules decide: measured of the data and the model, computed, or asked for."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, get_args

from planning.disk import format_count

Form = Literal["text", "answers", "preferences", "ratings", "prompts"]
"""Kind of rows: plain text, prompts with answers, pairs of answers, answers rated good or bad, or
prompts alone."""
Approach = Literal["prompting", "few_shot", "rag", "prompt_tuning", "lora", "qlora", "full"]
"""Approach to adapt a model, the simplest to try first."""
Step = Literal[
    "continued_pretraining", "vocabulary", "supervised_first", "alignment", "reinforcement"
]
APPROACHES: tuple[Approach, ...] = get_args(Approach)
STEPS: tuple[Step, ...] = get_args(Step)
AFTER_TRAINING: tuple[Step, ...] = ("alignment", "reinforcement")
TRAINED: tuple[Approach, ...] = ("prompt_tuning", "lora", "qlora", "full")
TITLES: dict[Approach, str] = {
    "prompting": "prompt engineering",
    "few_shot": "few-shot prompting",
    "rag": "retrieval-augmented generation (RAG)",
    "prompt_tuning": "prompt tuning",
    "lora": "LoRA",
    "qlora": "QLoRA",
    "full": "full fine-tuning",
}
Value = str | int | float | bool | None


@dataclass(frozen=True)
class Facts:
    """Facts of one question. A measured one is None if it was not measured.

    Attributes:
        form: Kind of the rows.
        rows: Number of rows.
        prompt_tokens: Tokens of a prompt, on average.
        answer_tokens: Tokens of an answer, on average.
        data_tokens: Tokens of all rows.
        distinct_answers: Share of the answers that are different from each other.
        grounding: Share of the answers' words that are in their prompts.
        questions: Share of the prompts that end with a question mark.
        verifiable: True if a reward can check the answers: prompts have a reference, or answers end
            with a marked result.
        adapter_load: Bits that the learned tokens hold, relative to what a LoRA of the planned rank
            can store. The estimate is one bit per token and two per weight
            (https://thinkingmachines.ai/blog/lora/, arXiv:2404.05405).
        parameters: Parameters of the model.
        context: Longest input of the model, in tokens.
        chat_template: True if the model's tokenizer has a chat template.
        answer_loss: Loss of the untrained model on the answers, in nats per token.
        few_shot_gain: Share by which examples in the prompt lower that loss.
        domain_distance: Bits per byte of the model on the rows, relative to a general-purpose
            compressor.
        fertility_ratio: Tokens per word of the rows, relative to plain English.
        qlora_saving: Share by which QLoRA costs less than LoRA.
        full_cost_ratio: Cost of full fine-tuning relative to that of LoRA.
        changing_facts: True if the answers depend on facts that change.
        keep_general: True if other abilities of the model are to be kept.
        tasks: Number of tasks that share the model.
    """

    form: Form
    rows: int
    parameters: int
    context: int
    prompt_tokens: float = 0.0
    answer_tokens: float = 0.0
    data_tokens: float = 0.0
    distinct_answers: float | None = None
    grounding: float | None = None
    questions: float | None = None
    verifiable: bool = False
    adapter_load: float | None = None
    chat_template: bool = False
    answer_loss: float | None = None
    few_shot_gain: float | None = None
    domain_distance: float | None = None
    fertility_ratio: float | None = None
    qlora_saving: float | None = None
    full_cost_ratio: float | None = None
    changing_facts: bool = False
    keep_general: bool = False
    tasks: int = 1

    def value(self, name: str) -> Value:
        """Return a fact by its name."""
        value: Value = getattr(self, name)
        return value

    def texts(self) -> dict[str, str]:
        """Return every fact as a reason shows it."""
        shown = {name: fact_text(name, self.value(name)) for name in FACT_NAMES}
        ungrounded = None if self.grounding is None else 1 - self.grounding
        return {**shown, "ungrounded": fact_text("grounding", ungrounded)}


FACT_NAMES = tuple(field.name for field in fields(Facts))
_SHARES = frozenset(("distinct_answers", "grounding", "questions", "few_shot_gain", "qlora_saving"))
_COUNTS = frozenset(("parameters", "data_tokens"))
_CHANGES = {
    "rows": ("{0} or more", "fewer than {0}"),
    "data_tokens": ("{0} tokens of text or more", "fewer than {0} tokens of text"),
    "answer_loss": ("a loss of {0} nats or more on the answers", "a loss below {0} nats"),
    "few_shot_gain": ("examples that lower the loss by {0}", "examples that help less than {0}"),
    "adapter_load": (
        "answers that hold {0} times the bits that the LoRA stores, or more",
        "answers that hold less than {0} times the bits that the LoRA stores",
    ),
    "tasks": ("{0} tasks or more on one base", "fewer than {0} tasks on one base"),
}
"""Words for a change of a fact: up to a value, and below it."""
_SWITCHES = {
    "changing_facts": ("facts that change (--changing-facts)", "facts that do not change"),
    "keep_general": ("other abilities to keep (--keep-general)", "no other abilities to keep"),
}


def fact_text(name: str, value: Value) -> str:
    """Return a fact as a reason shows it.

    Args:
        name: Name of the fact.
        value: Its value.
    """
    if value is None or isinstance(value, bool | str):
        return "not measured" if value is None else str(value).lower()
    if name in _SHARES:
        return f"{value:.0%}"
    if name == "rows":
        return f"{value:,} row{'s' * (value != 1)}"
    if name in _COUNTS:
        return format_count(value)
    if isinstance(value, int) or name.endswith("_tokens"):
        return f"{value:,.0f}"
    return f"{value:.2f}".rstrip("0").rstrip(".")


def change_text(name: str, value: Value, *, upward: bool) -> str:
    """Return the words for a change of a fact, such as `1,000 rows or more`.

    Args:
        name: Name of the fact.
        value: Its value after the change, or the bound that it falls below.
        upward: False if it falls below the value.
    """
    if name in _SWITCHES:
        return _SWITCHES[name][0 if value else 1]
    return _CHANGES[name][0 if upward else 1].format(fact_text(name, value))
