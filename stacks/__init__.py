"""The platform: CDK stacks that build a private, encrypted, cost-capped place to train in.

Run `make synth ENV=dev`. Start reading at `platform.py`, which builds the stacks in order.
"""
