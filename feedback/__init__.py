"""What preference labels are worth, and what is left of them to learn from."""
