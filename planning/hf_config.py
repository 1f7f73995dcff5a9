"""Reader of a model's shape from its `config.json`: in a folder, in S3, or on the Hub."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from planning.added_tokens import read_vocabulary, with_added_tokens
from planning.hub_cache import in_cache
from planning.model_shape import ModelShape
from training.config import Job
from training.config.adapter_files import is_moved, read_adapter_config, recorded_base
from training.config.model import SCRATCH, Model, in_registry
from training.errors import JobError, Problem, TemperError

_PATIENCE_S = 5.0
_NOT_TIED = frozenset(
    (
        *("llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe", "phi3"),
        *("gpt_neox", "olmo2", "granite", "stablelm", "phi"),
    )
)
"""Families whose embeddings are not tied unless the file says otherwise."""

Config = Mapping[str, Any]


@dataclass
class _Readers:
    """Readers of addresses that this package has no client for."""

    s3: Callable[[str], str] | None = None
    registry: Callable[[str], str] | None = None


_readers = _Readers()


def read_registry_with(reader: Callable[[str], str]) -> None:
    """Set the function that returns the S3 address of a version in the model registry.

    It raises a `TemperError` if there is no such version, or it may not be read.
    """
    _readers.registry = reader


def read_s3_with(reader: Callable[[str], str]) -> None:
    """Set the function that returns the text of an object in S3, called with its address.

    It raises a `TemperError` if there is no such object, or it may not be read.
    """
    _readers.s3 = reader


@dataclass(frozen=True)
class NamedShape:
    """Model that a job names.

    Attributes:
        source: Folder or Hub id.
        revision: Revision on the Hub.
        job: Name of the job, for messages.
        key: Job key that names the model, for messages.
        base: Base of an adapter; None for the one that the adapter records.
    """

    source: str
    revision: str | None
    job: str
    key: str = "model.source"
    base: str | None = None

    def problem(self, message: str, value: str, fix: str = "") -> JobError:
        """Return the error of a model that cannot be read.

        Args:
            message: The problem.
            value: The value that causes it.
            fix: Remedy for the user.
        """
        return JobError(self.job, [Problem(self.key, message, value, fix)])


def read_shape(job: Job) -> ModelShape:
    """Return the shape of a job's model.

    Raises:
        JobError: There is no `config.json` to read, or it does not describe a decoder.
    """
    model = job.model
    named = NamedShape(model.source, model.revision, job.name, base=model.base_model)
    if job.model.source == SCRATCH:
        assert job.model.scratch is not None
        scratch = job.model.scratch.model_dump(exclude_none=True)
        scratch["model_type"] = scratch.pop("architecture")
        if "vocab_size" not in scratch:
            scratch["vocab_size"] = _tokenizer_size(job.model)
        shape = shape_of(scratch, named)
    else:
        shape = with_added_tokens(shape_named(named), job.model)
    return replace(shape, scores=True) if job.method.head == "score" else shape


@lru_cache(maxsize=16)
def shape_named(named: NamedShape) -> ModelShape:
    """Return the shape of a model in a folder, in the Hub's cache, or on the Hub.

    Raises:
        JobError: There is no `config.json` to read, or it does not describe a decoder.
    """
    return shape_of(_find(named), named)


def shape_of(document: Config, named: NamedShape) -> ModelShape:
    """Return the shape that a parsed `config.json` describes.

    Args:
        document: Content of the file.
        named: The model, for messages.

    Raises:
        JobError: A size is missing.
    """
    config = {**document, **document.get("text_config", {})}
    family = str(config.get("model_type", "")).removesuffix("_text")
    read = _FAMILIES.get(family, _unknown)
    dtype = str(config.get("dtype") or config.get("torch_dtype") or "")
    try:
        return replace(read(config, family), dtype=dtype)
    except KeyError as missing:
        raise named.problem(
            f"its config.json has no {missing}, which a plan needs",
            family,
            "Name a text decoder, such as a Llama or a Qwen",
        ) from None


# --- where it is ------------------------------------------------------------------------------


def _find(named: NamedShape) -> Config:
    source = named.source
    if in_registry(source):
        if _readers.registry is None:
            raise named.problem(
                "is in the model registry, which this command does not read",
                source,
                "Plan it with temper plan",
            )
        return _find(replace(named, source=_readers.registry(source)))
    if source.startswith("s3://") and named.base is not None:
        return _find(replace(named, source=named.base, key="model.base_model", base=None))
    if source.startswith("s3://"):
        return _from_s3(named)
    folder = Path(source)
    if folder.is_dir():
        return _parse(named, folder / "config.json")
    if source.startswith((".", "/", "~")) or source.count("/") > 1:
        raise named.problem("there is no such folder", source, "Name one with a config.json")
    cached = in_cache(source, named.revision, "config.json")
    if cached is not None:
        return _parse(named, cached)
    return _from_hub(named)


def _parse(named: NamedShape, path: Path) -> Config:
    try:
        document = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        adapter = path.with_name("adapter_config.json")
        if adapter.is_file():
            config = read_adapter_config(adapter.parent) or {}
            if named.base is not None:
                return _find(replace(named, source=named.base, key="model.base_model", base=None))
            revision = config.get("revision")
            return _find(replace(named, source=recorded_base(config), revision=revision))
        raise named.problem(
            "the folder has no config.json", str(path.parent), "Name one that has"
        ) from None
    except (OSError, ValueError) as error:
        raise named.problem(f"its config.json cannot be read: {error}", str(path)) from None
    if not isinstance(document, dict):
        raise named.problem("its config.json is not a mapping", str(path))
    return document


def _from_hub(named: NamedShape) -> Config:
    name, revision = named.source, named.revision or "main"
    fix = "Check the name, the network and HF_TOKEN, or name a folder that has a config.json"
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        raise named.problem("is not in the Hub's cache, and HF_HUB_OFFLINE is set", name, fix)
    host = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    request = urllib.request.Request(f"{host}/{name}/resolve/{revision}/config.json")
    if token := os.environ.get("HF_TOKEN"):
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=_PATIENCE_S) as answer:
            document = json.loads(answer.read())
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise named.problem(
            f"its config.json could not be had from the Hub ({reason})", name, fix
        ) from None
    return document if isinstance(document, dict) else {}


def _from_s3(named: NamedShape) -> Config:
    """Return the `config.json` below an S3 address, which SageMaker reads in place."""
    address = f"{named.source.rstrip('/')}/config.json"
    if _readers.s3 is None:
        raise named.problem(
            "is in S3, which this command does not read", named.source, "Plan it with temper plan"
        )
    try:
        document = json.loads(_readers.s3(address))
    except (TemperError, ValueError) as error:
        if (base := _base_in_s3(named)) is not None:
            return _find(replace(named, source=base, revision=None))
        fix = f"Check it with `aws s3 ls {address}`"
        raise named.problem(
            f"its config.json could not be read: {error}", named.source, fix
        ) from None
    return document if isinstance(document, dict) else {}


def _base_in_s3(named: NamedShape) -> str | None:
    """Return the base that an adapter below an S3 address records; None if there is no adapter.

    Raises:
        JobError: The base is a folder of the machine that trained the adapter.
    """
    assert _readers.s3 is not None
    try:
        config = json.loads(_readers.s3(f"{named.source.rstrip('/')}/adapter_config.json"))
        base = recorded_base(config)
    except (TemperError, ValueError, AttributeError):
        return None
    if is_moved(base):
        raise named.problem(
            f"is an adapter, whose base {base or '(not recorded)'} is not on this machine",
            named.source,
            "Set model.base_model to where the base is: a folder, a Hub id or an s3:// address",
        )
    return base


def _tokenizer_size(model: Model) -> int:
    vocabulary = read_vocabulary(model)
    return 32_000 if vocabulary is None else max(vocabulary.values()) + 1


# --- families ---------------------------------------------------------------------------------


def _llama(config: Config, family: str) -> ModelShape:
    """Return the shape of a Llama-like model: gated MLP, RMSNorm, rotary positions."""
    hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
    kv_heads = int(config.get("num_key_value_heads") or heads)
    width = int(config.get("head_dim") or (128 if family.startswith("qwen3") else hidden // heads))
    inner = int(config["intermediate_size"])
    q, kv = heads * width, kv_heads * width
    linears = {
        "self_attn.q_proj": (q, hidden),
        "self_attn.k_proj": (kv, hidden),
        "self_attn.v_proj": (kv, hidden),
        "self_attn.o_proj": (hidden, q),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    biases: dict[str, int] = {}
    if family == "qwen2" or config.get("attention_bias"):
        names = ("q_proj", "k_proj", "v_proj") + (() if family == "qwen2" else ("o_proj",))
        biases |= {f"self_attn.{n}": linears[f"self_attn.{n}"][0] for n in names}
    if config.get("mlp_bias"):
        biases |= {n: rows for n, (rows, _) in linears.items() if n.startswith("mlp.")}
    norms = {"input_layernorm": hidden, "post_attention_layernorm": hidden}
    if family.startswith("qwen3"):
        norms |= {"self_attn.q_norm": width, "self_attn.k_norm": width}
    return ModelShape(
        family=family,
        hidden=hidden,
        intermediate=inner,
        layers=int(config["num_hidden_layers"]),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=width,
        vocab=int(config["vocab_size"]),
        tied=bool(config.get("tie_word_embeddings", family not in _NOT_TIED)),
        context=int(config.get("max_position_embeddings", 1 << 30)),
        linears=linears,
        biases=biases,
        norms=norms,
    )


def _mixture(config: Config, family: str) -> ModelShape:
    """Return the shape of a mixture of experts.

    The linear layers of its MLP are those of the shared experts, if it has some.
    """
    experts = next(int(config[name]) for name in _EXPERTS if config.get(name))
    seen = int(config["num_experts_per_tok"])
    width = int(config.get("moe_intermediate_size") or config["intermediate_size"])
    shared = int(config.get("n_shared_experts") or 0)
    shape = _llama({**config, "intermediate_size": max(shared, 1) * width}, family)
    linears = shape.linears
    if not shared:
        linears = {name: sizes for name, sizes in linears.items() if not name.startswith("mlp.")}
    note = (
        f"{experts} experts, {seen} at a time: planned with torch's grouped_mm, as measured on a "
        f"CPU; on a GPU the memory is an estimate, because its kernel there was not measured"
    )
    # The architectures that have the loss have it by default.
    balanced = family in _BALANCED and config.get("router_aux_loss_coef", 0.001) > 0
    return replace(
        shape,
        intermediate=(seen + shared) * width,
        linears=linears,
        experts=experts,
        experts_per_token=seen,
        expert_width=width,
        shared_experts=shared,
        balanced=balanced,
        notes=(*shape.notes, note),
    )


def _unknown(config: Config, family: str) -> ModelShape:
    known = {ours: config[n] for ours, names in _ALIASES.items() for n in names if config.get(n)}
    sizes: dict[str, Any] = {**known, **config}
    if sizes.get("hidden_size") and not sizes.get("intermediate_size"):
        sizes["intermediate_size"] = 4 * int(sizes["hidden_size"])
    if family in _TWO_MATRICES and sizes.get("intermediate_size"):
        # A Llama's MLP has three.
        sizes["intermediate_size"] = 2 * int(sizes["intermediate_size"]) // 3
    note = (
        f"{family or 'this model'} is not a family the plan knows; planned as a Llama of its sizes"
    )
    mixture = any(config.get(name) for name in _EXPERTS)
    shape = _mixture(sizes, family) if mixture else _llama(sizes, family)
    return replace(shape, notes=(note, *shape.notes))


_BALANCED = frozenset(("mixtral", "qwen2_moe", "qwen3_moe", "gpt_oss", "granitemoe"))
"""Families with a load-balancing loss in Transformers."""
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
_ALIASES = {
    "hidden_size": ("n_embd", "d_model"),
    "intermediate_size": ("n_inner", "ffn_dim"),
    "num_hidden_layers": ("n_layer", "num_layers", "n_layers"),
    "num_attention_heads": ("n_head", "n_heads"),
    "max_position_embeddings": ("n_positions", "n_ctx"),
}
"""Llama's name of each size, and the names in the files of other families."""
_TWO_MATRICES = frozenset(
    ("gpt2", "gpt_neo", "gpt_neox", "gptj", "gpt_bigcode", "opt", "bloom", "phi", "starcoder2")
)
"""Families whose MLP is not gated and has two matrices."""

_FAMILIES: dict[str, Callable[[Config, str], ModelShape]] = {
    "llama": _llama,
    "mistral": _llama,
    "qwen2": _llama,
    "qwen3": _llama,
    "mixtral": _mixture,
    "qwen3_moe": _mixture,
}
