"""The data: from files of any known shape to rows of tokens, and a report of what they are.

`prepare.prepare` is the door. Importing this package costs nothing: torch and the trainers are
only imported where a batch is made.
"""
