"""Tests of the door to the account."""
