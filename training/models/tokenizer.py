"""Tokenizer of a run: the model's own, another by name, or one trained on the job's data."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from training.config.model import Model
from training.errors import ModelError
from training.models.locate import explain_missing
from training.models.vocabulary_extension import add_tokens

BOS, EOS, PAD = "<s>", "</s>", "<pad>"


def load_tokenizer(model: Model) -> PreTrainedTokenizerBase:
    """Return the tokenizer that `model` names.

    Raises:
        ModelError: The tokenizer does not exist, cannot be read, has no end-of-text token, or does
            not encode the tokens to add.
    """
    source = model.tokenizer or model.source
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            source,
            revision=model.revision if model.tokenizer is None else None,
            trust_remote_code=model.trust_remote_code,
        )
    except Exception as error:
        raise ModelError(explain_missing("tokenizer", source, error)) from error
    if tokenizer.eos_token_id is None:
        raise ModelError(
            f"the tokenizer of {source} has no end-of-text token, so a model could never learn "
            f"to stop. Set eos_token in its tokenizer_config.json"
        )
    if tokenizer.pad_token_id is None:
        # Padding is masked by length, so any id will do.
        tokenizer.pad_token = tokenizer.eos_token
    if model.add_tokens:
        add_tokens(tokenizer, model.add_tokens)
    return tokenizer


def separate_pad_from_eos(tokenizer: PreTrainedTokenizerBase) -> None:
    """Set a padding token that differs from end-of-text, if the vocabulary has one.

    A score model reads its score at the last token that is not padding. If end-of-text were also
    the padding token, the model would never see the end of a text.
    """
    if tokenizer.pad_token_id != tokenizer.eos_token_id:
        return
    ends = {tokenizer.eos_token, tokenizer.bos_token, None}
    spare = [t for t in tokenizer.all_special_tokens if "pad" in t or "reserved" in t]
    for token in (tokenizer.unk_token, *spare):
        if token not in ends:
            tokenizer.pad_token = token
            return


def train_tokenizer(texts: Iterable[str], vocab_size: int, folder: Path) -> None:
    """Train a byte-level BPE tokenizer and save it in `folder` atomically.

    Args:
        texts: Training texts.
        vocab_size: Size of the vocabulary, including 256 bytes and 3 special tokens.
        folder: Folder of the tokenizer.

    Raises:
        ModelError: `vocab_size` is less than the bytes and special tokens need.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    special = [PAD, BOS, EOS]
    if vocab_size < 256 + len(special):
        raise ModelError(
            f"model.scratch.vocab_size is {vocab_size}; a byte-level tokenizer needs at least "
            f"{256 + len(special)}"
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, pad_token=PAD
    )
    building = folder.with_name(f".writing-{folder.name}")
    shutil.rmtree(building, ignore_errors=True)
    fast.save_pretrained(building)
    building.rename(folder)
