"""Preparations of data as SageMaker processing jobs."""
