"""Translation of Hugging Face hyperparameters, as JSON, into a job file.

The input is the JSON that fine-tuning services on Transformers and TRL take: `use_lora`,
`lora_config`, `sft_config`, `model_init_config`, `merge_adapters`, and the arguments of
`TrainingArguments` and `SFTConfig`.
"""
