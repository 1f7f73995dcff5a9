"""What a container image weighs, and how long it takes to its first optimizer step."""
