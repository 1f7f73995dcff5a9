"""Unsloth's documented script: fp32 weights and bf16 autocast, or a bf16 base under LoRA.

`python -m benchmarks.gpu.peers.unsloth_script SETTINGS STEPS`

https://huggingface.co/docs/trl/unsloth_integration. Its kernels replace those of
Transformers when it is imported, so it comes first; the import needs a GPU.
"""

from __future__ import annotations

# isort: off
from unsloth import FastLanguageModel
# isort: on

import torch
from datasets import load_dataset
from trl import SFTConfig, SFTTrainer

from benchmarks.gpu.peers.settings import PeerSettings, read_arguments
from benchmarks.gpu.peers.steps import StepFile
from benchmarks.gpu.peers.trainer_steps import StepFileCallback

_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def main(settings: PeerSettings, steps: StepFile) -> None:
    """Train."""
    full = {"full_finetuning": True, "float32_mixed_precision": True}
    model, tokenizer = FastLanguageModel.from_pretrained(
        settings.model,
        max_seq_length=settings.length,
        dtype=torch.bfloat16,
        load_in_4bit=False,
        **({} if settings.lora else full),
    )
    if settings.lora:
        model = FastLanguageModel.get_peft_model(
            model,
            r=settings.r,
            lora_alpha=settings.alpha,
            lora_dropout=0,
            target_modules=_LINEAR,
            use_gradient_checkpointing="unsloth",
        )
    trainer = SFTTrainer(
        model=model,
        processing_class=tokenizer,
        args=SFTConfig(
            output_dir=settings.folder,
            max_steps=settings.steps,
            max_length=settings.length,
            per_device_train_batch_size=settings.batch,
            gradient_accumulation_steps=1,
            learning_rate=settings.learning_rate,
            bf16=True,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=load_dataset("json", data_files=settings.rows, split="train"),
        callbacks=[StepFileCallback(steps)],
    )
    trainer.train()


if __name__ == "__main__":
    main(*read_arguments())
