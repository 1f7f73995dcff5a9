"""Name of the file that stands for a model whose weights a provider keeps."""

MANAGED_MODEL = "managed_model.json"
