"""Multi-adapter inference: one base model in memory, with the adapter selected per request.

Requests for different LoRA adapters share a batch (PEFT selects the adapter per row); adapters of
other kinds are activated one after the other.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftModel, PeftType
from peft.tuners.lora.layer import ParamWrapper
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

import training.adapters.composition.tuner  # noqa: F401  (PEFT then knows these types)
from training.config import Job
from training.config.load import parse_job
from training.config.model import Model
from training.data.schema.rows import CompletionRow
from training.data.tokenization.row_tokenizer import RowTokenizer
from training.errors import DataError, ModelError
from training.models.base_digest import check_base_digest
from training.models.generate import Generation, sample
from training.models.locate import explain_missing
from training.models.tokenizer import load_tokenizer
from validation.json_lines import split_lines

BASE_NAME = "__base__"
"""PEFT's name for a row without an adapter."""


@dataclass(frozen=True)
class AdapterRequest:
    """One request.

    Attributes:
        prompt: The prompt.
        adapter: Name of the adapter; None for the base model.
        completion: Reference answer, if known.
    """

    prompt: str
    adapter: str | None = None
    completion: str | None = None


def read_requests(path: Path) -> list[AdapterRequest]:
    """Return the requests of a JSONL file.

    Raises:
        DataError: The file cannot be read, or a line is not a request.
    """
    requests = []
    try:
        lines = split_lines(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            problem = (
                ""
                if isinstance(row, dict) and isinstance(row.get("prompt"), str)
                else ("it has no prompt")
            )
        except ValueError as error:
            row, problem = {}, str(error)
        if problem:
            raise DataError(
                f"{path}, line {number}: {problem}. A request is a JSON object with a prompt, the "
                f"adapter that answers, and a completion if one is known"
            )
        requests.append(AdapterRequest(row["prompt"], row.get("adapter"), row.get("completion")))
    if not requests:
        raise DataError(f"{path} has no request")
    return requests


class AdapterServer:
    """Base model with several adapters that answers each request with the adapter it names.

    Args:
        base: Folder or Hub id of the base model.
        adapters: Folders of the adapters, by the names that requests use.
        batch_size: Number of requests per batch.

    Raises:
        ModelError: An adapter cannot be loaded, is for another base, or of a different kind.
    """

    def __init__(self, base: str, adapters: Mapping[str, str], batch_size: int = 16):
        configs = read_adapters(base, adapters)
        try:
            model: Any = AutoModelForCausalLM.from_pretrained(base)
        except Exception as error:
            raise ModelError(explain_missing("model", base, error)) from error
        self.batch_size = batch_size
        model, self._mixed_batches = with_adapters(model, adapters, configs)
        self.model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        # Each adapter's folder has the chat template that it was trained with.
        sources = {**adapters, BASE_NAME: base}
        self._tokenizers = {n: load_tokenizer(Model(source=s)) for n, s in sources.items()}
        self._row_tokenizers = {
            n: _row_tokenizer_of(s, self._tokenizers[n]) for n, s in sources.items()
        }

    def answer(self, requests: Sequence[AdapterRequest], max_new_tokens: int = 64) -> list[str]:
        """Return the greedy answer to each request, in order.

        Raises:
            DataError: A request names an unknown adapter.
        """
        answers = [""] * len(requests)
        for indices, names in self._batches(requests):
            row_tokenizers = [self._row_tokenizers[name] for name in names]
            prompts = [
                row_tokenizer.prompt_ids(requests[index].prompt)
                for index, row_tokenizer in zip(indices, row_tokenizers, strict=True)
            ]
            ends = sorted({end for tokenizer in row_tokenizers for end in tokenizer.end_ids})
            generations = self._generate(names, prompts, max_new_tokens, ends)
            for index, name, generation in zip(indices, names, generations, strict=True):
                text = self._tokenizers[name].decode(generation.ids, skip_special_tokens=True)
                answers[index] = str(text)
        return answers

    def loss(self, requests: Sequence[AdapterRequest]) -> float:
        """Return the mean loss per token of the requests' completions.

        Raises:
            DataError: A request names an unknown adapter, or no request has a completion.
        """
        total, count = 0.0, 0
        for indices, names in self._batches([r for r in requests if r.completion]):
            rows = [requests[index] for index in indices]
            for name, row in zip(names, rows, strict=True):
                ids, labels = self._tokenize(name, row)
                with torch.no_grad(), self._active([name]):
                    logits = self.model(input_ids=ids).logits[:, -ids.shape[1] :]
                total += float(
                    torch.nn.functional.cross_entropy(
                        logits[0, :-1].float(), labels[1:], ignore_index=-100, reduction="sum"
                    )
                )
                count += int((labels[1:] != -100).sum())
        if not count:
            raise DataError("no request has a completion, so there is no loss to measure")
        return total / count

    def _tokenize(self, name: str, row: AdapterRequest) -> tuple[torch.Tensor, torch.Tensor]:
        (parts,) = self._row_tokenizers[name](
            [CompletionRow("request", row.prompt, row.completion or "")]
        )
        if not isinstance(parts, list):
            raise DataError(f"the request {row.prompt!r} cannot be tokenized: {parts}")
        device = self.model.device
        ids = torch.tensor([list(map(int, parts[0].input_ids))], device=device)
        return ids, torch.tensor(list(map(int, parts[0].labels)), device=device)

    def _generate(
        self, names: list[str], prompts: list[list[int]], max_new_tokens: int, ends: list[int]
    ) -> list[Generation]:
        # Greedy decoding (temperature 0) does not use the uniform random numbers.
        uniform = torch.zeros(len(prompts), max_new_tokens, dtype=torch.float64)
        pad = self._tokenizers[BASE_NAME].pad_token_id
        with self._active(names):
            return sample(self.model, prompts, uniform, temperature=0, end_ids=ends, pad_id=pad)

    def _batches(self, requests: Sequence[AdapterRequest]) -> Iterator[tuple[list[int], list[str]]]:
        """Yield the indices of each batch of requests, with the adapter of each.

        Raises:
            DataError: A request names an unknown adapter.
        """
        names = [request.adapter or BASE_NAME for request in requests]
        for name in names:
            if name not in self._row_tokenizers:
                available = ", ".join(n for n in self._row_tokenizers if n != BASE_NAME)
                raise DataError(f"there is no adapter {name!r}. Choose from {available}, or none")
        order = list(range(len(names)))
        groups = [order]
        if not self._mixed_batches:
            groups = [[i for i in order if names[i] == name] for name in dict.fromkeys(names)]
        for group in groups:
            for start in range(0, len(group), self.batch_size):
                chosen = group[start : start + self.batch_size]
                yield chosen, [names[index] for index in chosen]

    @contextmanager
    def _active(self, names: list[str]) -> Iterator[None]:
        """Activate one adapter per row of the batch."""
        if self._mixed_batches:
            # PEFT's public API accepts `adapter_names` in forward and generate only; its hooks
            # also work around the sampling loop used here.
            with self.model._enable_peft_forward_hooks(adapter_names=names):
                yield
            return
        (name,) = set(names)
        if name != BASE_NAME:
            self.model.set_adapter(name)
        with self.model.disable_adapter() if name == BASE_NAME else nullcontext():
            yield


def read_adapters(base: str, adapters: Mapping[str, str]) -> dict[str, PeftConfig]:
    """Return the configurations of adapters, after checking them against each other and the base.

    Args:
        base: Folder or Hub id of the base model.
        adapters: Folders of the adapters, by name.

    Raises:
        ModelError: One cannot be read, is for another base, or of a different kind.
    """
    configs = {name: _config(name, Path(folder)) for name, folder in adapters.items()}
    check_kinds(configs)
    if Path(base).is_dir():
        for folder in adapters.values():
            check_base_digest(Path(folder), Path(base))
    return configs


def with_adapters(
    model: Any, adapters: Mapping[str, str], configs: Mapping[str, PeftConfig]
) -> tuple[Any, bool]:
    """Return a model with adapters, and whether a batch can mix them.

    Args:
        model: The base model.
        adapters: Folders of the adapters, by name.
        configs: Their configurations.
    """
    for name, folder in adapters.items():
        if isinstance(model, PeftModel):
            model.load_adapter(folder, adapter_name=name)
        else:
            model = PeftModel.from_pretrained(model, folder, adapter_name=name)
    # PEFT applies adapters of a mixture's experts (one fused parameter) to an entire batch.
    fused = any(isinstance(module, ParamWrapper) for module in model.modules())
    return model, not fused and all(map(_supports_mixed_batches, configs.values()))


def _config(name: str, folder: Path) -> PeftConfig:
    if not (folder / "adapter_config.json").is_file():
        raise ModelError(
            f"adapter {name}: {folder} is no adapter's folder (no adapter_config.json)"
        )
    return PeftConfig.from_pretrained(str(folder))


def check_kinds(configs: Mapping[str, PeftConfig]) -> None:
    """Check that adapters can be on one model.

    Raises:
        ModelError: They are of different kinds.
    """
    kinds = {name: str(getattr(c.peft_type, "value", c.peft_type)) for name, c in configs.items()}
    if len(set(kinds.values())) > 1:
        listed = ", ".join(f"{name} is {kind.lower()}" for name, kind in kinds.items())
        raise ModelError(
            f"the adapters of one server must be of one kind: {listed}. Answer the "
            f"requests of each kind separately"
        )


def _supports_mixed_batches(config: PeftConfig) -> bool:
    """Return True if PEFT can select this adapter per row of a batch."""
    plain = isinstance(config, LoraConfig) and config.peft_type == PeftType.LORA
    return plain and not config.use_dora and config.bias == "none"


def _row_tokenizer_of(source: str, tokenizer: PreTrainedTokenizerBase) -> RowTokenizer:
    """Return the row tokenizer that writes prompts as in training of the model in a folder."""
    document = {
        "name": "requests",
        "model": {"source": source},
        "data": {"train": "unused", "max_length": 1 << 20},
        "method": {"kind": "sft"},
        "train": {},
    }
    job = parse_job(document, "requests")
    assert isinstance(job, Job)
    return RowTokenizer.for_job(job, tokenizer)
