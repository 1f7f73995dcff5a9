"""Lambda function that removes what serves models: past its end, or idle.

Endpoints, inference components and provisioned throughput share one rule, which reads their tags.
"""
