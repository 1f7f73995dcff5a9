"""Errors of access to the AWS account."""


class AccountError(Exception):
    """The account denied access, or cannot be reached; the message has the reason and the fix."""
