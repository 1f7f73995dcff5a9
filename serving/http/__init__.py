"""HTTP server: OpenAI's protocol, SageMaker's contract, metrics."""
