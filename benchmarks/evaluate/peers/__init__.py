"""One contestant per file, each run in a process of its own."""
