"""Validation of files that people write: errors of pydantic as a path, a value and a fix.

Job files (`training.config`), probe files (`safety`) and environment files (`stacks.settings`)
report their mistakes through it. It imports pydantic and nothing else of this project.
"""
