"""Engine of GGUF files: llama.cpp, in this process."""
