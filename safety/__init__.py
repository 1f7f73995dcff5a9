"""Safety evaluation of models: red-teaming and social bias, each with a gate for CI."""
