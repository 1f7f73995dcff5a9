"""Capabilities of AWS's managed customization: models, methods, keys, ranges and prices.

The facts stand in `managed_training.yaml`, with their date and their sources.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

from catalog.prices import customization_prices

BEDROCK = "bedrock:"
"""Prefix of a foundation model of Amazon Bedrock: `bedrock:amazon.nova-micro-v1:0`."""
JUMPSTART = "jumpstart:"
"""Prefix of a model in SageMaker's public hub: `jumpstart:huggingface-reasoning-qwen3-8b`."""

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Parameter:
    """Parameter of a provider that takes the value of a job's key.

    Attributes:
        name: Name at the provider; empty if the value is a field of the request.
        type: `integer` or `float`; empty if the recipe of the model says it.
        min: Smallest value; None without a limit.
        max: Largest value; None without a limit.
        default: Value that the provider would use; None if it is unknown.
        share: Parameter that takes a share of all steps instead of a number of steps.
        field: Field of the request that takes the value, if it is no hyperparameter.
    """

    name: str = ""
    type: str = ""
    min: float | None = None
    max: float | None = None
    default: float | None = None
    share: str = ""
    field: str = ""


@dataclass(frozen=True)
class ManagedMethod:
    """One way of training at a provider.

    Attributes:
        technique: Name at the provider, such as `FINE_TUNING`.
        format: Format of the rows.
        keys: Keys of a job that it takes, with the parameter of each.
        format_nova: Format for Amazon Nova, if it differs.
        min_rows: Fewest rows.
        max_rows: Most rows; None without a limit.
        max_validation_rows: Most held-out rows; None without a limit.
        rows_source: Where the numbers of rows were read; empty without limits.
        ranges_source: Where the ranges of the parameters were read; empty without ranges, or if the
            recipe of the model says them.
    """

    technique: str
    format: str
    keys: Mapping[str, Parameter] = field(default_factory=dict)
    format_nova: str = ""
    min_rows: int = 1
    max_rows: int | None = None
    max_validation_rows: int | None = None
    rows_source: str = ""
    ranges_source: str = ""


@dataclass(frozen=True)
class ManagedModel:
    """Model that a provider customizes.

    Attributes:
        name: Name at the provider.
        methods: Method by the kind of a job's method.
        base: Identifier for a customization, if it differs from the name.
        huggingface: Ids of the same model on the Hugging Face Hub.
        aliases: Names of it at other providers.
        regions: Regions in which it can be customized; empty for those of the provider.
        validation: Whether held-out rows are used.
        usd_per_1k_tokens: Price of 1,000 tokens of training; None if it is unknown.
        price_source: Source of the price, with its date.
        price_list: Beginning of its usage types in AWS's price list; empty if it is unknown.
    """

    name: str
    methods: Mapping[str, ManagedMethod]
    base: str = ""
    huggingface: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    validation: bool = True
    usd_per_1k_tokens: float | None = None
    price_source: str = ""
    price_list: str = ""

    @property
    def is_nova(self) -> bool:
        """True for Amazon Nova, whose weights never leave AWS."""
        return "nova" in self.name

    def format_of(self, kind: str) -> str:
        """Return the format of the rows for a kind of method."""
        method = self.methods[kind]
        return (method.format_nova if self.is_nova else "") or method.format


@dataclass(frozen=True)
class Provider:
    """Managed customization of one service.

    Attributes:
        name: Name of the target.
        title: Name for people.
        date: Date of the facts.
        sources: Where they were read.
        returns: What a finished job leaves.
        adapters: Kinds of adapter that it trains; `none` stands for all weights.
        handled: Keys that are taken care of before a job is sent.
        models: Models by name.
        methods: Every method of the provider, by the kind of a job's method.
        billing: What is billed: `tokens`, or the time of the `instances` that the job names.
    """

    name: str
    title: str
    date: str
    sources: tuple[str, ...]
    returns: str
    adapters: tuple[str, ...]
    handled: tuple[str, ...]
    models: Mapping[str, ManagedModel]
    methods: Mapping[str, ManagedMethod] = field(default_factory=dict)
    billing: Literal["tokens", "instances"] = "tokens"

    def find(self, source: str) -> ManagedModel | None:
        """Return the model that a job names, None if the provider is not known to have it.

        Args:
            source: `bedrock:ID`, `jumpstart:ID`, or an id of the Hugging Face Hub.
        """
        name = source.removeprefix(BEDROCK).removeprefix(JUMPSTART)
        for model in self.models.values():
            if name in (model.name, model.base, *model.aliases, *model.huggingface):
                return model
        return None


def is_managed_name(source: str) -> bool:
    """Return whether a model is named by its id at a provider."""
    return source.startswith((BEDROCK, JUMPSTART))


@cache
def providers() -> dict[str, Provider]:
    """Return the providers by name."""
    document = yaml.load(Path(__file__).with_suffix(".yaml").read_text("utf-8"), Loader=_LOADER)
    return {name: _provider(name, facts) for name, facts in document["providers"].items()}


def _provider(name: str, facts: Mapping[str, Any]) -> Provider:
    methods = {key: _method(method) for key, method in facts["methods"].items()}
    prices = facts.get("prices") or {}
    regions = facts.get("regions", {})
    models = {}
    for model, about in facts["models"].items():
        named = about["methods"]
        pairs = named.items() if isinstance(named, dict) else ((kind, kind) for kind in named)
        usd, source = _price(model, about, prices)
        models[model] = ManagedModel(
            name=model,
            methods={kind: methods[method] for kind, method in pairs},
            base=about.get("base", ""),
            huggingface=tuple(about.get("huggingface", ())),
            aliases=tuple(about[key] for key in ("hub", "bedrock") if key in about),
            regions=tuple(
                about.get("regions") or regions.get("nova" if "nova" in model else "open", ())
            ),
            validation=about.get("validation", True),
            usd_per_1k_tokens=usd,
            price_source=source,
            price_list=about.get("price_list", ""),
        )
    return Provider(
        name=name,
        title=facts["title"],
        date=str(facts["date"]),
        sources=tuple(facts["sources"]),
        returns=facts["returns"],
        adapters=tuple(facts["adapters"]),
        handled=tuple(facts["handled"]),
        models=models,
        methods=methods,
        billing=facts.get("billing", "tokens"),
    )


def _method(facts: Mapping[str, Any]) -> ManagedMethod:
    rows = facts.get("rows", {})
    keys = {
        key: Parameter(
            name=about.get("parameter", ""),
            **{name: value for name, value in about.items() if name != "parameter"},
        )
        for key, about in facts.get("keys", {}).items()
    }
    return ManagedMethod(
        technique=facts["technique"],
        format=facts["format"],
        keys=keys,
        format_nova=facts.get("format_nova", ""),
        min_rows=rows.get("min", 1),
        max_rows=rows.get("max"),
        max_validation_rows=rows.get("max_validation"),
        rows_source=rows.get("source", ""),
        ranges_source=facts.get("ranges", ""),
    )


def _price(
    name: str, about: Mapping[str, Any], prices: Mapping[str, Any]
) -> tuple[float | None, str]:
    """Return the price of 1,000 tokens of a model, and its source with its date."""
    newer = customization_prices()
    if name in newer.get("usd_per_1k_tokens", {}):
        listed = float(newer["usd_per_1k_tokens"][name])
        return listed, f"AWS price list, {about['price_list']}, {newer['date']}"
    usd = about.get("usd_per_1k_tokens")
    return usd, f"{prices['source']}, {prices['date']}" if usd is not None else ""
