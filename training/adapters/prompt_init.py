"""Token ids that a soft prompt starts from: words of the vocabulary, or of a text.

Starting near real words matters: in PEFT's own comparison (Llama-3.2-3B on MetaMathQA) prompt
tuning reaches .343 from sampled words and .057 from random vectors.
"""

from __future__ import annotations

import torch
from transformers import PreTrainedTokenizerBase

from training.errors import ModelError


def starting_ids(tokenizer: PreTrainedTokenizerBase, text: str | None, number: int) -> torch.Tensor:
    """Return `number` token ids, shape [number].

    Args:
        tokenizer: Of the model.
        text: Its tokens are taken, again and again or cut as needed; None draws distinct words.
        number: Virtual tokens.

    Raises:
        ModelError: `text` has no token.
    """
    if text is not None:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        if not ids:
            raise ModelError(f"adapter.init_text has no token: {text!r}")
        return torch.tensor((ids * -(-number // len(ids)))[:number])
    words = sorted(set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids))
    chosen = torch.randperm(len(words))[:number]
    if number > len(words):
        chosen = torch.randint(len(words), (number,))
    return torch.tensor(words)[chosen]
