"""Readers of logs of calls: SageMaker's data capture, Bedrock's invocation logs, `temper serve`."""
