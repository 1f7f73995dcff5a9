"""Right-sizing of a server: instances that hold a model, their speed, and the cost of tokens."""
