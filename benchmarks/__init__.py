"""Speed and memory, always side by side with a peer in the same run; results in README.md."""
