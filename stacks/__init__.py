"""CDK stacks of the platform: a private, encrypted and cost-capped environment for training.

Run `make synth ENV=dev`. Start reading at `platform.py`, which builds the stacks in order.
"""
