"""Models and tokenizers: loading, quantization, freezing, generation and weight files."""
