"""Engine of GPUs: vLLM, whose own server takes the place of this process."""
