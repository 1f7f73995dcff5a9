"""Transitions of a live environment: what a deployment replaces, deletes and leaves behind.

Two sets of templates are compared (`changes`, `exports`); a deployment that would break a reference
between stacks is split into steps that CloudFormation accepts (`expansion`, `deployment`).
"""
