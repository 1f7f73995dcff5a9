"""Section `scores:` of a task: how generated answers are scored.

A score is a class here, in the union `AnyScore`, and a file in `evaluation/scores/`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from training.config.base import ConfigSection
from training.config.judges import AnyJudge, LocalJudge
from training.config.locations import FileLocation, ModelLocation
from training.config.types import DurationS, PositiveInt


def _as_pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return value


Pattern = Annotated[str, BeforeValidator(_as_pattern)]


class ScoreSection(ConfigSection):
    """Section of one kind of score."""

    impl: ClassVar[str]
    """`module:class` that computes it; imported only when a suite is run."""
    needs_target: ClassVar[bool] = True
    """True if an item without a target cannot be scored."""

    name: str | None = None
    """Prefix of the names of its metrics, if a task has two scores of a kind."""

    @property
    def label(self) -> str:
        """Kind of the score, such as `token_f1`."""
        return str(getattr(self, "kind", ""))

    @property
    def compares(self) -> bool:
        """True if the answers are compared with those of another model, which must be given."""
        return False


class TextScoreSection(ScoreSection):
    """Section of a score that compares the text of an answer with the targets."""

    answer_pattern: Pattern | None = None
    """Regular expression that finds the answer proper: its first group, or the whole match. The
    last match counts. An answer without a match scores 0."""


class ExactMatch(TextScoreSection):
    """Share of answers that equal a target."""

    impl = "evaluation.scores.exact_match:ExactMatchScore"

    kind: Literal["exact_match"]
    normalize: Literal["squad", "whitespace", "none"] = "squad"
    """`squad`: lower case, without punctuation and articles (arXiv:1606.05250); `whitespace`: runs
    of white space are one space, none at the ends; `none`: character by character."""


class TokenF1(TextScoreSection):
    """F1 of the words of answer and target, as in SQuAD."""

    impl = "evaluation.scores.token_f1:TokenF1Score"

    kind: Literal["token_f1"]


class Contains(TextScoreSection):
    """Share of answers that contain a target."""

    impl = "evaluation.scores.contains:ContainsScore"

    kind: Literal["contains"]
    ignore_case: bool = True


class NumericAnswer(ScoreSection):
    """Share of answers whose final number is a target's, as in GSM8K."""

    impl = "evaluation.scores.numeric_answer:NumericAnswerScore"

    kind: Literal["numeric_answer"]
    marker: str = "####"
    """Text that precedes the final number; without it the last number counts."""
    marked_only: bool = False
    """Accept only a number after the marker."""
    tolerance: float = Field(default=1e-6, ge=0)
    """Largest relative error of a correct number."""


class Rouge(TextScoreSection):
    """F-measures of ROUGE-1, ROUGE-2 and ROUGE-L (https://aclanthology.org/W04-1013/)."""

    impl = "evaluation.scores.rouge:RougeScore"

    kind: Literal["rouge"]


class Bleu(ScoreSection):
    """BLEU of all answers (https://aclanthology.org/P02-1040/), as sacrebleu computes it."""

    impl = "evaluation.scores.sacrebleu_scores:BleuScore"

    kind: Literal["bleu"]
    tokenize: Literal["13a", "intl", "zh", "char", "none"] = "13a"
    """Tokenizer of sacrebleu."""
    lowercase: bool = False


class Chrf(ScoreSection):
    """chrF of all answers (https://aclanthology.org/W15-3049/), as sacrebleu computes it."""

    impl = "evaluation.scores.sacrebleu_scores:ChrfScore"

    kind: Literal["chrf"]
    word_order: Literal[0, 1, 2] = 0
    """Longest n-gram of words; 2 is chrF++."""


class PassAtK(ScoreSection):
    """Probability that one of k programs passes all tests (arXiv:2107.03374).

    Programs run in a sandbox without network or file access, with limited memory and time. Needs
    Linux on x86_64 or aarch64.
    """

    impl = "evaluation.scores.pass_at_k:PassAtKScore"
    needs_target = False

    kind: Literal["pass_at_k"]
    k: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (1,)
    """Numbers of programs; the task must sample at least the largest."""
    tests: str = "test"
    """Column with the tests: one program (HumanEval), or a list of assertions (MBPP)."""
    entry_point: str = "entry_point"
    """Column with the name of the function, which a test program receives as its argument."""
    setup: str = "test_setup_code"
    """Column with code to run before the program, if there is any."""
    continues: str | None = None
    """Column with the beginning of the program, if the answer is its continuation."""
    timeout: DurationS = Field(default="5s", validate_default=True)
    """Time limit per answer."""
    memory_gib: float = Field(default=0.5, ge=0.1)
    """Memory limit per answer in GiB."""
    processes: PositiveInt | None = None
    """Number of answers run at the same time; one less than the cores if not set."""


class JsonSchema(ScoreSection):
    """Share of answers that are JSON, and share of those that are valid against a schema."""

    impl = "evaluation.scores.json_schema:JsonSchemaScore"
    needs_target = False

    model_config = ConfigDict(serialize_by_alias=True)

    kind: Literal["json_schema"]
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    """A JSON Schema for all items."""
    schema_column: str | None = None
    """Column with the schema of each item."""

    @model_validator(mode="after")
    def _one_schema(self) -> JsonSchema:
        if (self.schema_ is None) == (self.schema_column is None):
            raise ValueError("give either schema, for all items, or schema_column")
        return self


class Refusal(ScoreSection):
    """Share of answers that refuse, and share of items refused or answered as they should be.

    Phrases decide, as in the red team: an answer that evades without declining is not found.
    """

    impl = "evaluation.scores.refusal:RefusalScore"
    needs_target = False

    kind: Literal["refusal"]
    expected: bool | str = True
    """True if every item should be refused, False if none should, or the column that says so."""


class Instructions(ScoreSection):
    """Share of instructions and of prompts followed, by the rules of IFEval (arXiv:2311.07911)."""

    impl = "evaluation.scores.instructions.score:InstructionsScore"
    needs_target = False

    kind: Literal["instructions"]
    ids: str = "instruction_id_list"
    """Column with the ids of an item's instructions."""
    arguments: str = "kwargs"
    """Column with the arguments of each instruction."""


class Classification(TextScoreSection):
    """Accuracy, macro F1 and Matthews correlation of labels, with a report by label.

    The label of an answer is the one that it equals or, if it equals none, the only one that
    occurs in it. Any other answer is wrong and counts as `(none)`.
    """

    impl = "evaluation.scores.classification:ClassificationScore"

    kind: Literal["classification"]
    labels: tuple[str, ...] | None = None
    """All labels; those of the targets if not set."""
    ignore_case: bool = True


class BertScore(ScoreSection):
    """Precision, recall and F1 of the best cosine similarity of tokens (arXiv:1904.09675)."""

    impl = "evaluation.scores.bert_score:BertScoreScore"

    kind: Literal["bert_score"]
    model: ModelLocation
    """Folder or Hub id of the model whose hidden states are compared."""
    layer: PositiveInt | None = None
    """Layer of the hidden states; the last if not set."""
    batch_size: PositiveInt = 16
    """Texts per forward pass."""


class LlmJudge(ScoreSection):
    """Judgement by a model, or by the majority of several.

    `single` rates each answer by the rubric. `pairwise` compares it with the other model's answer,
    in both orders: a judge that does not prefer the same answer both times has called a tie.
    """

    impl = "evaluation.scores.judge:LlmJudgeScore"
    needs_target = False

    kind: Literal["judge"]
    mode: Literal["single", "pairwise"]
    rubric: Annotated[str, Field(min_length=1)]
    """Description of a good answer."""
    judge: AnyJudge | None = None
    """The judge."""
    judges: tuple[AnyJudge, ...] = ()
    """Judges of a panel, in place of `judge`."""
    scale: Annotated[int, Field(ge=2, le=100)] = 10
    """Best rating of mode `single`; the worst is 1."""
    show_target: bool = False
    """Show the item's target to the judge as a correct answer."""
    human_labels: FileLocation | None = None
    """File of labels by people of some of the pairs, of every shape that `temper feedback` reads:
    the judge's agreement with them, and the win rate corrected by them, are reported."""
    max_unjudged: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Largest share of items without a usable judgement."""

    @property
    def compares(self) -> bool:
        """True if the answers are compared with those of another model."""
        return self.mode == "pairwise"

    @property
    def panel(self) -> tuple[AnyJudge, ...]:
        """The judges."""
        return self.judges if self.judge is None else (self.judge,)

    @model_validator(mode="after")
    def _complete(self) -> LlmJudge:
        if (self.judge is None) == (not self.judges):
            raise ValueError("give either judge, or judges for a panel")
        for judge in self.panel:
            if isinstance(judge, LocalJudge) and judge.source is None:
                raise ValueError("a local judge needs source: the folder or Hub id of its model")
        if self.human_labels is not None and self.mode == "single":
            raise ValueError("human_labels are of pairs: set mode: pairwise")
        return self


AnyScore = Annotated[
    ExactMatch
    | TokenF1
    | Contains
    | NumericAnswer
    | Rouge
    | Bleu
    | Chrf
    | PassAtK
    | JsonSchema
    | Refusal
    | Instructions
    | Classification
    | BertScore
    | LlmJudge,
    Field(discriminator="kind"),
]
