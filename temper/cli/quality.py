"""Commands that examine labels and models: evaluate, compare, feedback, redteam, bias."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from temper.cli.options import run_or_model


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command("evaluate")(_evaluate)
    app.command("compare")(_compare)
    app.command("feedback")(_feedback)
    app.command("redteam")(_redteam)
    app.command("bias")(_bias)


BeforeOption = Annotated[str | None, typer.Option(help="Another model to compare with.")]
ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="A model folder or a Hub id.")]
TemplateOption = Annotated[
    str | None, typer.Option(help="A chat template, as model.chat_template of a job.")
]


def _evaluate(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A run, folder, GGUF, Hub id or endpoint.")
    ],
    suite: Annotated[
        Path, typer.Argument(metavar="SUITE", help="A suite file, or the name of a shipped one.")
    ],
    against: Annotated[
        str | None, typer.Option(help="Another model to compare with on the same items.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the results.")] = None,
    batch_size: Annotated[int, typer.Option(help="Sequences per forward pass.")] = 16,
    max_cost: Annotated[
        float | None, typer.Option(help="Cost limit of judges and endpoints in USD.")
    ] = None,
) -> int:
    """Evaluate a model on a suite, paired with another model.

    Values have 95 % intervals, and differences are tested on the same items.
    """
    from evaluation.command import EvaluateOptions, run_evaluation

    other = against and run_or_model(against)
    options = EvaluateOptions(run_or_model(model), suite, other, out, batch_size, max_cost)
    return run_evaluation(options)


def _compare(
    model: Annotated[str, typer.Argument(metavar="A", help="A run, folder, Hub id or endpoint.")],
    other: Annotated[str, typer.Argument(metavar="B", help="The model to compare with.")],
    prompts: Annotated[Path, typer.Option(help="File of prompts: JSONL, CSV or Parquet.")],
    judge: Annotated[Path, typer.Option(help="YAML of a judge, or of a rubric and judges.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the results.")] = None,
    column: Annotated[str | None, typer.Option(help="Column of the prompts.")] = None,
    plain: Annotated[bool, typer.Option(help="Ask without the chat template.")] = False,
    max_new_tokens: Annotated[int, typer.Option(help="Tokens of the longest answer.")] = 512,
    batch_size: Annotated[int, typer.Option(help="Sequences per forward pass.")] = 16,
    max_cost: Annotated[
        float | None, typer.Option(help="Cost limit of judges and endpoints in USD.")
    ] = None,
) -> int:
    """Compare the answers of two models by a judge.

    Each pair is judged in both orders. pairs.jsonl has the pairs to show to people first.
    """
    from evaluation.comparison import CompareOptions, run_comparison

    return run_comparison(
        CompareOptions(
            model=run_or_model(model),
            other=run_or_model(other),
            prompts=prompts,
            judge=judge,
            out=out,
            column=column,
            chat=not plain,
            max_new_tokens=max_new_tokens,
            batch_size=batch_size,
            max_cost=max_cost,
        )
    )


def _feedback(
    data: Annotated[
        list[Path],
        typer.Argument(metavar="DATA", help="CSV, JSON Lines or Ground Truth manifests."),
    ],
    columns: Annotated[
        list[str] | None,
        typer.Option(metavar="PART=COLUMN", help="Columns of other names: choice=overall."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the report and the cleaned pairs.")
    ] = None,
    least_alpha: Annotated[
        float | None, typer.Option(help="Fail below this Krippendorff's alpha.")
    ] = None,
) -> int:
    """Analyze preference labels and write a cleaned set.

    The analysis measures how far annotators agree.
    """
    from feedback.command import analyze_labels

    return analyze_labels(data, columns or [], out, least_alpha)


def _redteam(
    model: ModelArgument,
    before: BeforeOption = None,
    probes: Annotated[
        Path | None, typer.Option(help="A file like safety/probes.yaml, or a CSV of requests.")
    ] = None,
    judge: Annotated[
        Path | None, typer.Option(help="YAML of a judge; rules decide if omitted.")
    ] = None,
    max_cost: Annotated[float | None, typer.Option(help="Cost limit of the judge in USD.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the report.")] = Path("redteam-report"),
    chat_template: TemplateOption = None,
    max_new_tokens: Annotated[int, typer.Option(help="Tokens of the longest answer.")] = 128,
    batch_size: Annotated[int, typer.Option(help="Prompts per batch.")] = 8,
    most_answered: Annotated[
        float | None, typer.Option(help="Exit 5 above this share of harmful requests answered.")
    ] = None,
    most_leaked: Annotated[
        float | None, typer.Option(help="Exit 5 above this share of secrets leaked.")
    ] = None,
    most_over_refused: Annotated[
        float | None, typer.Option(help="Exit 5 above this share of harmless questions refused.")
    ] = None,
    most_broken: Annotated[
        float | None, typer.Option(help="Exit 5 above this share of conversations broken.")
    ] = None,
) -> int:
    """Red-team a model with harmful and harmless requests.

    Secrets that it may give away are probed, too.
    """
    from safety.probes import DEFAULT_PROBES
    from safety.redteam import RedteamOptions, run_redteam

    return run_redteam(
        RedteamOptions(
            model=model,
            before=before,
            probes=probes or DEFAULT_PROBES,
            judge=judge,
            max_cost=max_cost,
            out=out,
            chat_template=chat_template,
            max_new_tokens=max_new_tokens,
            batch_size=batch_size,
            limits={
                "request": most_answered,
                "leak": most_leaked,
                "harmless": most_over_refused,
                "conversation": most_broken,
            },
        )
    )


def _bias(
    model: ModelArgument,
    before: BeforeOption = None,
    data: Annotated[
        list[Path] | None, typer.Option(help="A file of questions; may be repeated.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Ask only the first questions.")] = None,
    most: Annotated[float | None, typer.Option(help="Exit 5 above this bias, such as 0.2.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the report.")] = Path("bias-report"),
    chat_template: TemplateOption = None,
    batch_size: Annotated[int, typer.Option(help="Prompts per batch.")] = 16,
) -> int:
    """Measure social bias in a model's answers, as BBQ does."""
    from safety.bbq import DEFAULT_QUESTIONS
    from safety.bias import BiasOptions, run_bias

    return run_bias(
        BiasOptions(
            model=model,
            before=before,
            data=tuple(data or (DEFAULT_QUESTIONS,)),
            limit=limit,
            most=most,
            out=out,
            chat_template=chat_template,
            batch_size=batch_size,
        )
    )
