"""Clients of the AWS account: session, platform parameters, S3, training jobs and their logs."""
