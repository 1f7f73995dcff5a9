"""Models and tokenizers: load, quantize, freeze, measure."""
