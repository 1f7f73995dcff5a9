"""Graders: the rewards of a job as an AWS Lambda function that a provider calls for answers."""
