"""Requests that each name their adapter: one base in memory, and adapters switched per request.

Requests of different adapters are answered in one batch where all are LoRA (PEFT tells the rows
apart); adapters of another kind are switched on one after the other.
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

_NONE = "__base__"
"""PEFT's name for a row without an adapter."""


@dataclass(frozen=True)
class AdapterRequest:
    """One request.

    Attributes:
        prompt: What is asked.
        adapter: Who answers; None for the base by itself.
        completion: What a right answer is, where that is known.
    """

    prompt: str
    adapter: str | None = None
    completion: str | None = None


def read_requests(path: Path) -> list[AdapterRequest]:
    """Return the requests of a JSONL file.

    Raises:
        DataError: A line is no request.
    """
    found = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if not isinstance(row, dict) or not isinstance(row.get("prompt"), str):
                raise ValueError("it has no prompt")
            found.append(AdapterRequest(row["prompt"], row.get("adapter"), row.get("completion")))
        except ValueError as error:
            raise DataError(
                f"{path}, line {number}: {error}. A request is a JSON object with a prompt, the "
                f"adapter that answers, and a completion where one is known"
            ) from error
    if not found:
        raise DataError(f"{path} has no request")
    return found


class AdapterServer:
    """A base with several adapters, each request answered by the one it names.

    Args:
        base: The model's folder or Hub id.
        adapters: Their folders, by the names that requests use.
        batch_size: Requests at once.

    Raises:
        ModelError: One of them cannot be loaded, is for another base, or of another kind.
    """

    def __init__(self, base: str, adapters: Mapping[str, str], batch_size: int = 16):
        configs = {name: _config(name, Path(folder)) for name, folder in adapters.items()}
        _check_kinds(configs)
        if Path(base).is_dir():
            for folder in adapters.values():
                check_base_digest(Path(folder), Path(base))
        try:
            model: Any = AutoModelForCausalLM.from_pretrained(base)
        except Exception as error:
            raise ModelError(explain_missing("model", base, error)) from error
        self.batch_size = batch_size
        self._mixes = all(_mixes(config) for config in configs.values())
        for name, folder in adapters.items():
            if isinstance(model, PeftModel):
                model.load_adapter(folder, adapter_name=name)
            else:
                model = PeftModel.from_pretrained(model, folder, adapter_name=name)
        # The experts of a mixture are one parameter, which PEFT changes for a whole batch.
        if any(isinstance(module, ParamWrapper) for module in model.modules()):
            self._mixes = False
        self.model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        # Each adapter's folder says how conversations were written when it was trained.
        sources = {**adapters, _NONE: base}
        self._tokenizers = {n: load_tokenizer(Model(source=s)) for n, s in sources.items()}
        self._writers = {n: _writer(s, self._tokenizers[n]) for n, s in sources.items()}

    def answer(self, requests: Sequence[AdapterRequest], max_new_tokens: int = 64) -> list[str]:
        """Return the likeliest answer to each request, in their order.

        Raises:
            DataError: A request names an adapter that is not there.
        """
        answers = [""] * len(requests)
        for indices, names in self._batches(requests):
            writers = [self._writers[name] for name in names]
            prompts = [
                writer.prompt_ids(requests[index].prompt)
                for index, writer in zip(indices, writers, strict=True)
            ]
            ends = sorted({end for writer in writers for end in writer.end_ids})
            said = self._sampled(names, prompts, max_new_tokens, ends)
            for index, name, one in zip(indices, names, said, strict=True):
                text = self._tokenizers[name].decode(one.ids, skip_special_tokens=True)
                answers[index] = str(text)
        return answers

    def loss(self, requests: Sequence[AdapterRequest]) -> float:
        """Return the mean over tokens of the loss of what requests expect.

        Raises:
            DataError: A request names an adapter that is not there, or none expects anything.
        """
        total, count = 0.0, 0
        for indices, names in self._batches([r for r in requests if r.completion]):
            rows = [requests[index] for index in indices]
            for name, row in zip(names, rows, strict=True):
                ids, labels = self._written(name, row)
                with torch.no_grad(), self._active([name]):
                    logits = self.model(input_ids=ids).logits[:, -ids.shape[1] :]
                total += float(
                    torch.nn.functional.cross_entropy(
                        logits[0, :-1].float(), labels[1:], ignore_index=-100, reduction="sum"
                    )
                )
                count += int((labels[1:] != -100).sum())
        if not count:
            raise DataError("no request says what a right answer is: give it a completion")
        return total / count

    def _written(self, name: str, row: AdapterRequest) -> tuple[torch.Tensor, torch.Tensor]:
        (parts,) = self._writers[name]([CompletionRow("request", row.prompt, row.completion or "")])
        if not isinstance(parts, list):
            raise DataError(f"the request {row.prompt!r} cannot be written: {parts}")
        device = self.model.device
        ids = torch.tensor([list(map(int, parts[0].input_ids))], device=device)
        return ids, torch.tensor(list(map(int, parts[0].labels)), device=device)

    def _sampled(
        self, names: list[str], prompts: list[list[int]], longest: int, ends: list[int]
    ) -> list[Generation]:
        chance = torch.zeros(len(prompts), longest, dtype=torch.float64)
        pad = self._tokenizers[_NONE].pad_token_id
        with self._active(names):
            return sample(self.model, prompts, chance, temperature=0, end_ids=ends, pad_id=pad)

    def _batches(self, requests: Sequence[AdapterRequest]) -> Iterator[tuple[list[int], list[str]]]:
        """Yield places of requests that go at once, and who answers each."""
        names = [request.adapter or _NONE for request in requests]
        for name in names:
            if name not in self._writers:
                there = ", ".join(n for n in self._writers if n != _NONE)
                raise DataError(f"there is no adapter {name!r}. Choose from {there}, or none")
        order = list(range(len(names)))
        groups = [order]
        if not self._mixes:
            groups = [[i for i in order if names[i] == name] for name in dict.fromkeys(names)]
        for group in groups:
            for start in range(0, len(group), self.batch_size):
                chosen = group[start : start + self.batch_size]
                yield chosen, [names[index] for index in chosen]

    @contextmanager
    def _active(self, names: list[str]) -> Iterator[None]:
        """Let these answer, row by row."""
        if self._mixes:
            # What PEFT does with `adapter_names` in a call of its own, around a call of ours.
            with self.model._enable_peft_forward_hooks(adapter_names=names):
                yield
            return
        (name,) = set(names)
        if name != _NONE:
            self.model.set_adapter(name)
        with self.model.disable_adapter() if name == _NONE else nullcontext():
            yield


def _config(name: str, folder: Path) -> PeftConfig:
    if not (folder / "adapter_config.json").is_file():
        raise ModelError(
            f"adapter {name}: {folder} is no adapter's folder (no adapter_config.json)"
        )
    return PeftConfig.from_pretrained(str(folder))


def _check_kinds(configs: Mapping[str, PeftConfig]) -> None:
    kinds = {name: str(getattr(c.peft_type, "value", c.peft_type)) for name, c in configs.items()}
    if len(set(kinds.values())) > 1:
        listed = ", ".join(f"{name} is {kind.lower()}" for name, kind in kinds.items())
        raise ModelError(
            f"adapters that take turns on one base must be of one kind: {listed}. Answer the "
            f"requests of each kind by themselves"
        )


def _mixes(config: PeftConfig) -> bool:
    """Whether PEFT can tell rows of a batch apart for this adapter."""
    plain = isinstance(config, LoraConfig) and config.peft_type == PeftType.LORA
    return plain and not config.use_dora and config.bias == "none"


def _writer(source: str, tokenizer: PreTrainedTokenizerBase) -> RowTokenizer:
    """Return what writes prompts as in training, by what a folder says of it."""
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
