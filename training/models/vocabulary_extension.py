"""Added tokens: a tokenizer with new tokens, and a base whose embeddings have rows for them.

A new row is the average of the embeddings of the pieces that the token is split into without it,
for input and output embeddings alike. Transformers' `mean_resizing` draws new rows from the
distribution of all rows, so that a new token starts without its meaning.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from training.errors import ModelError
from training.models.layer_streaming import embedding_names
from training.models.safetensors_io import TensorInfo, WeightFiles, write_tensors

_INDEX = "model.safetensors.index.json"


def add_tokens(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[str]) -> None:
    """Add tokens to a tokenizer, unless it has them.

    Args:
        tokenizer: Changed in place.
        tokens: The tokens, as they stand in a text.

    Raises:
        ModelError: A text is not encoded as the new token: every such token.
    """
    tokenizer.add_tokens(list(tokens))
    wrong = [token for token in tokens if not _is_one_token(tokenizer, token)]
    if wrong:
        raise ModelError(
            f"model.add_tokens: this tokenizer does not encode {', '.join(map(repr, wrong))} as "
            f"the token that was added, because it changes a text before it looks for tokens. "
            f"Write them as the tokenizer changes them (in lower case, for instance), or leave "
            f"them out"
        )


def _is_one_token(tokenizer: PreTrainedTokenizerBase, token: str) -> bool:
    ids = tokenizer(token, add_special_tokens=False)["input_ids"]
    decoded = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    return tokenizer.convert_tokens_to_ids(token) in ids and decoded.strip() == token


def pieces_of(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[str]) -> dict[int, list[int]]:
    """Return the ids that each added token is split into without it, by its own id.

    Raises:
        ModelError: The tokenizer is not a fast one, or has no pieces for a token.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ModelError(
            f"model.add_tokens needs a fast tokenizer (tokenizer.json), and this one is a "
            f"{type(tokenizer).__name__}. Save it with AutoTokenizer first"
        )
    document = json.loads(backend.to_str())
    kept = [one for one in document["added_tokens"] if one["content"] not in tokens]
    plain = Tokenizer.from_str(json.dumps({**document, "added_tokens": kept}))
    pieces = {
        tokenizer.convert_tokens_to_ids(token): plain.encode(token, add_special_tokens=False).ids
        for token in tokens
    }
    ids = dict(zip(pieces, tokens, strict=True))
    whole = [ids[new] for new, old in pieces.items() if not old or old == [new]]
    if whole:
        raise ModelError(
            f"model.add_tokens: {', '.join(map(repr, whole))} cannot be added: the tokenizer's own "
            f"vocabulary has it, or has no pieces to average. Leave it out"
        )
    return pieces


def write_extended_model(
    base: Path,
    target: Path,
    tokenizer: PreTrainedTokenizerBase,
    tokens: Sequence[str],
    before: Mapping[str, int],
) -> None:
    """Write a copy of a model whose embeddings have a row for each added token.

    Rows that the embeddings have beyond the vocabulary are used first. One tensor is in memory at
    a time, and each keeps its dtype.

    Args:
        base: Folder of the model.
        target: Folder to create.
        tokenizer: Tokenizer with the tokens; saved with the model.
        tokens: The added tokens.
        before: Vocabulary without them, as the model's tokenizer has it.

    Raises:
        ModelError: The model has rows for a token already, or its files hold no embeddings.
    """
    source = WeightFiles(base)
    names = _stored_names(base, source)
    rows = source.tensors[names[0]].shape[0]
    if known := [token for token in tokens if before.get(token, rows) < rows]:
        raise ModelError(
            f"model.add_tokens: the model has an embedding of {', '.join(map(repr, known))} "
            f"already, which an average would replace. Leave it out"
        )
    pieces = pieces_of(tokenizer, tokens)
    unknown = sorted({piece for old in pieces.values() for piece in old if piece >= rows})
    if unknown:
        raise ModelError(
            f"model.add_tokens: the pieces {unknown[:5]} of the added tokens are beyond the "
            f"{rows} rows of the model's embeddings: add those tokens too"
        )
    wanted = max(rows, max(tokenizer.get_vocab().values()) + 1)
    target.mkdir(parents=True)
    for path, stored in source.files.items():
        kinds = {
            name: _with_rows(source.tensors[name], wanted)
            if name in names
            else source.tensors[name]
            for name in stored
        }

        def read(name: str) -> torch.Tensor:
            tensor = source.read(name)
            return extended(tensor, wanted, pieces) if name in names else tensor

        write_tensors(target / path.name, kinds, read)
    _write_settings(base, target, wanted)
    tokenizer.save_pretrained(target)


def extended(tensor: torch.Tensor, rows: int, pieces: Mapping[int, Sequence[int]]) -> torch.Tensor:
    """Return an embedding matrix, or the bias of a head, with the rows of added tokens.

    Args:
        tensor: `[vocabulary, …]`.
        rows: Rows of the result.
        pieces: Rows to average for each new row.
    """
    larger = tensor.new_zeros((rows, *tensor.shape[1:]))
    larger[: len(tensor)] = tensor
    for new, old in pieces.items():
        larger[new] = tensor[list(old)].float().mean(0).to(tensor.dtype)
    return larger


def _with_rows(info: TensorInfo, rows: int) -> TensorInfo:
    return TensorInfo(info.dtype, (rows, *info.shape[1:]))


def _stored_names(base: Path, source: WeightFiles) -> list[str]:
    """Return the names of the tensors with a row per token: input first, then those of the head.

    Raises:
        ModelError: The files have no input embeddings.
    """
    stored = []
    for candidates in embedding_names(base):
        stored += [name for name in candidates if name in source][:1]
    inputs = embedding_names(base)[0]
    if not stored or stored[0] not in inputs:
        raise ModelError(
            f"model.add_tokens: {base} holds no tensor {inputs[0]}, the input embeddings of its "
            f"architecture. Name a folder that save_pretrained wrote"
        )
    return stored


def _write_settings(base: Path, target: Path, rows: int) -> None:
    for path in sorted(base.glob("*.json")):
        if path.name != _INDEX and not path.name.startswith(("tokenizer", "special_tokens")):
            shutil.copyfile(path, target / path.name)
    config = json.loads((target / "config.json").read_text())
    section = config if "vocab_size" in config else config["text_config"]
    section["vocab_size"] = rows
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    if (base / _INDEX).exists():
        index = json.loads((base / _INDEX).read_text())
        index.setdefault("metadata", {})["total_size"] = WeightFiles(target).num_bytes
        (target / _INDEX).write_text(json.dumps(index, indent=2) + "\n")
