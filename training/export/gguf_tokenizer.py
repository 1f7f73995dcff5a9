"""Conversion of a tokenizer to GGUF.

llama.cpp implements its own tokenizers and identifies a byte-level one by the name of its
pre-tokenizer. Only tokenizers whose pre-tokenizer is known to be identical are written; all others
are rejected.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import GGUFWriter, TokenType
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from training.errors import ModelError

_BYTE_LEVEL = "ByteLevel"
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_PRE_TOKENIZERS = {_LLAMA3: "llama-bpe", _QWEN2: "qwen2"}
"""Name of a pre-tokenizer in llama.cpp by its regular expression."""
_UNDERLINE = "▁"
_TEXTS = (
    "The quick brown fox jumps over the lazy dog, and then  two  spaces.",
    "Question: What is the capital of France? Answer: Paris (48.85° N)!",
    "def main():\n    return {'a': 1_000}\n",
    "Ünïcödé, 日本語 and 🦊: naïve café.",
)


@dataclass(frozen=True)
class GgufTokenizer:
    """Tokenizer in the form of GGUF.

    Attributes:
        model: `gpt2` (byte-level BPE) or `llama` (SentencePiece BPE with scores).
        pre: Name of the pre-tokenizer.
        tokens: Tokens by id.
        scores: Scores by id; empty for `gpt2`.
        types: Token types by id.
        merges: Merges of `gpt2`, in order of priority.
        special: Ids of special tokens by role, such as `bos`.
        add_bos: True if a BOS token is put before a text.
        add_eos: True if an EOS token is put after a text.
        space_first: True if a space is put before a text.
        chat_template: Jinja template, or None.
        chat_template_variants: Further templates by name, such as `tool_use`.
    """

    model: str
    pre: str
    tokens: list[str]
    scores: list[float]
    types: list[int]
    merges: list[str]
    special: dict[str, int]
    add_bos: bool
    add_eos: bool
    space_first: bool
    chat_template: str | None
    chat_template_variants: dict[str, str]

    def write(self, writer: GGUFWriter) -> None:
        """Write the tokenizer to the metadata of a file."""
        writer.add_tokenizer_model(self.model)
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.types)
        if self.scores:
            writer.add_token_scores(self.scores)
        if self.merges:
            writer.add_token_merges(self.merges)
        for role, number in self.special.items():
            getattr(writer, f"add_{role}_token_id")(number)
        writer.add_add_bos_token(self.add_bos)
        writer.add_add_eos_token(self.add_eos)
        writer.add_add_space_prefix(self.space_first)
        if self.chat_template:
            variants = {"default": self.chat_template, **self.chat_template_variants}
            writer.add_chat_template(
                [{"name": name, "template": text} for name, text in variants.items()]
            )


def read_tokenizer(folder: Path, rows: int) -> GgufTokenizer:
    """Return the tokenizer in a model's folder.

    Args:
        folder: Folder with a `tokenizer.json`.
        rows: Number of rows of the model's embeddings.

    Raises:
        ModelError: llama.cpp would tokenize text differently.
    """
    path = folder / "tokenizer.json"
    if not path.exists():
        raise ModelError(_refusal(folder, "there is no tokenizer.json"))
    stored = json.loads(path.read_text(encoding="utf-8"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if len(tokenizer) > rows:
        raise ModelError(
            _refusal(folder, f"it has {len(tokenizer):,} tokens, and the model {rows:,}")
        )
    if stored["model"]["type"] != "BPE":
        raise ModelError(_refusal(folder, f"its kind is {stored['model']['type']}, not BPE"))
    merges = [
        pair.split(" ") if isinstance(pair, str) else pair for pair in stored["model"]["merges"]
    ]
    pieces = bool(stored["model"].get("byte_fallback"))
    tokens, types = _tokens(stored, rows, pieces)
    begins, ends = _added_tokens(tokenizer, folder)
    own = tokenizer.chat_template
    templates = dict(own) if isinstance(own, dict) else {"default": own}
    converted = GgufTokenizer(
        model="llama" if pieces else "gpt2",
        pre="default" if pieces else _pre_tokenizer(stored, folder),
        tokens=tokens,
        scores=_scores(tokens, types, merges) if pieces else [],
        types=types,
        merges=[] if pieces else [" ".join(pair) for pair in merges],
        special=_special(tokenizer, folder),
        add_bos=begins,
        add_eos=ends,
        space_first=pieces,
        chat_template=templates.pop("default", None),
        chat_template_variants=templates,
    )
    if pieces:
        _check_pieces(stored, converted, tokenizer, folder)
    return converted


def _refusal(folder: Path, why: str) -> str:
    return (
        f"the tokenizer in {folder} cannot be written to GGUF so that llama.cpp reads text as it "
        f"does: {why}. Use FORMAT=safetensors"
    )


def _tokens(stored: dict[str, Any], rows: int, pieces: bool) -> tuple[list[str], list[int]]:
    """Return each token's text and type; embedding rows without a token are marked unused."""
    tokens = [f"[PAD{number}]" for number in range(rows)]
    types = [int(TokenType.UNUSED)] * rows
    for text, number in stored["model"]["vocab"].items():
        tokens[number], types[number] = text, int(TokenType.NORMAL)
        if pieces and len(text) == 6 and text.startswith("<0x"):
            types[number] = int(TokenType.BYTE)
    for added in stored["added_tokens"]:
        kind = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
        tokens[added["id"]], types[added["id"]] = added["content"], int(kind)
    unknown = stored["model"].get("unk_token")
    if pieces and unknown in tokens:
        types[tokens.index(unknown)] = int(TokenType.UNKNOWN)
    return tokens, types


def _pre_tokenizer(stored: dict[str, Any], folder: Path) -> str:
    """Return llama.cpp's name of a byte-level tokenizer's pre-tokenizer.

    Raises:
        ModelError: llama.cpp would tokenize text differently.
    """
    rule, normal = stored["pre_tokenizer"] or {}, stored["normalizer"]
    parts = rule.get("pretokenizers", [rule])
    last = parts[-1]
    if last.get("type") != _BYTE_LEVEL or last.get("add_prefix_space"):
        raise ModelError(_refusal(folder, f"text is cut by {rule.get('type', 'nothing')}"))
    if len(parts) == 1 and last.get("use_regex", True):
        name = "gpt-2"
    elif len(parts) == 2 and parts[0].get("type") == "Split" and not last.get("use_regex", True):
        expression = parts[0]["pattern"].get("Regex", "")
        name = _PRE_TOKENIZERS.get(expression, "")
        if not name or parts[0]["behavior"] != "Isolated" or parts[0].get("invert"):
            raise ModelError(
                _refusal(folder, f"the rule by which it cuts text is not known: {expression}")
            )
    else:
        raise ModelError(_refusal(folder, "it cuts text by several rules"))
    # For llama-bpe alone, llama.cpp keeps a word that is in the vocabulary without merging.
    if bool(stored["model"].get("ignore_merges")) != (name == "llama-bpe"):
        raise ModelError(_refusal(folder, f"ignore_merges is not as llama.cpp has it for {name}"))
    if normal is not None and not (name == "qwen2" and normal.get("type") == "NFC"):
        raise ModelError(_refusal(folder, f"it changes text first ({normal.get('type')})"))
    return name


def _added_tokens(tokenizer: PreTrainedTokenizerBase, folder: Path) -> tuple[bool, bool]:
    """Return two flags: the tokenizer adds BOS to a text, and EOS.

    Raises:
        ModelError: llama.cpp would tokenize text differently.
    """
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    begins = whole[:1] == [tokenizer.bos_token_id] and whole != bare
    ends = whole[-1:] == [tokenizer.eos_token_id] and len(whole) > len(bare) + begins
    if len(whole) != len(bare) + begins + ends:
        raise ModelError(
            _refusal(folder, "it puts other tokens around a text than a begin and an end")
        )
    return begins, ends


def _special(tokenizer: PreTrainedTokenizerBase, folder: Path) -> dict[str, int]:
    """Return token ids by role; `eot` if answers end with another token than texts."""
    roles = {role: getattr(tokenizer, f"{role}_token_id") for role in ("bos", "eos", "unk", "pad")}
    path = folder / "generation_config.json"
    ends = json.loads(path.read_text()).get("eos_token_id") if path.exists() else None
    others = [n for n in (ends if isinstance(ends, list) else []) if n not in roles.values()]
    if others:
        roles["eot"] = others[0]
    return {role: int(number) for role, number in roles.items() if number is not None}


# --- pieces with scores ---------------------------------------------------------------------------


def _scores(
    tokens: Sequence[str], types: Sequence[int], merges: Sequence[list[str]]
) -> list[float]:
    """Return scores that make llama.cpp merge in the order of the merges.

    Args:
        tokens: Tokens by id.
        types: Token types by id.
        merges: Pairs in order of priority.
    """
    ranks: dict[str, int] = {}
    for rank, (left, right) in enumerate(merges):
        ranks.setdefault(left + right, rank)
    last = len(merges)
    return [
        -float(ranks.get(text, last)) if kind == TokenType.NORMAL else 0.0
        for text, kind in zip(tokens, types, strict=True)
    ]


def _check_pieces(
    stored: dict[str, Any],
    converted: GgufTokenizer,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
) -> None:
    """Raise if merging by scores does not give the tokenizer's own ids.

    Raises:
        ModelError: llama.cpp would tokenize text differently.
    """
    normal = stored["normalizer"] or {}
    steps = [step.get("type") for step in normal.get("normalizers", [normal])]
    if steps != ["Prepend", "Replace"] or stored["pre_tokenizer"] is not None:
        raise ModelError(_refusal(folder, f"it prepares text in another way ({steps})"))
    normal_tokens = [
        text for text, kind in zip(converted.tokens, converted.types, strict=True) if kind == 1
    ]
    vocabulary = {text: number for number, text in enumerate(converted.tokens)}
    texts = [*_TEXTS, "".join(normal_tokens).replace(_UNDERLINE, " ")]
    texts += [" ".join(normal_tokens[start::7]).replace(_UNDERLINE, " ") for start in range(7)]
    for text in texts:
        mine = tokenize_by_scores(text, vocabulary, converted.scores)
        theirs = tokenizer(text, add_special_tokens=False)["input_ids"]
        if mine != theirs:
            raise ModelError(
                _refusal(folder, f"merging by scores cuts {text[:40]!r}… in another way")
            )


def tokenize_by_scores(text: str, vocabulary: dict[str, int], scores: Sequence[float]) -> list[int]:
    """Return the ids of a text as llama.cpp computes them, merging the best-scored pair first.

    Args:
        text: Text without special tokens.
        vocabulary: Ids by piece.
        scores: Scores by id.
    """
    parts = list(_UNDERLINE + text.replace(" ", _UNDERLINE))
    after = [*range(1, len(parts)), -1]
    before = list(range(-1, len(parts) - 1))
    queue: list[tuple[float, int, int, str]] = []

    def push(left: int, right: int) -> None:
        if left < 0 or right < 0:
            return
        both = parts[left] + parts[right]
        if both in vocabulary:
            heapq.heappush(queue, (-scores[vocabulary[both]], left, right, both))

    for place in range(len(parts) - 1):
        push(place, place + 1)
    while queue:
        _, left, right, both = heapq.heappop(queue)
        if not parts[left] or not parts[right] or parts[left] + parts[right] != both:
            continue
        parts[left], parts[right] = both, ""
        after[left] = after[right]
        if after[right] >= 0:
            before[after[right]] = left
        push(before[left], left)
        push(left, after[left])
    ids = []
    for part in filter(None, parts):
        if part in vocabulary:
            ids.append(vocabulary[part])
        else:
            ids += [vocabulary[f"<0x{byte:02X}>"] for byte in part.encode()]
    return ids
