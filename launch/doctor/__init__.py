"""Checks of this machine and of the AWS account before a job is submitted."""
