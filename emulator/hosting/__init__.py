"""Emulated hosting of models: SageMaker's models, endpoints, inference components, batch transform.

States advance on a clock that a test can hold (`emulator/clock.py`). The containers are real
processes: an endpoint answers with its model or, if the model cannot be loaded, fails as it would
on AWS. One process answers for all instances of a variant.
"""
