"""What the account did not give."""


class AccountError(Exception):
    """Says what was asked for, why it was not given, and the fix."""
