"""Requests, calls and checks that the targets on SageMaker share."""
