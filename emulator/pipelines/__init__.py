"""Emulated SageMaker Pipelines: definitions, executions, and their steps.

Steps create real jobs of the emulated service; references are resolved from the responses of its
`Describe` operations. The documentation does not say what the service does in these cases, and
here is what happens: a reference from outside to a step inside a branch is refused; when a step
fails, those that run are completed, and no other starts.
"""
