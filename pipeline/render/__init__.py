"""Pipelines rendered to the definition of SageMaker Pipelines, version 2020-12-01.

The JSON is written here and not by the classes of `sagemaker.mlops`: the SDK needs protobuf below
7, and its `Training` steps lack members that our requests have. Each step is checked against the
request of its operation in botocore's models (`validation.py`).
"""
