"""Code of the Lambda functions: one self-contained module per function.

The folder is the deployment asset, so a module is imported in the function by its bare name and
cannot import another one. Only boto3 and the standard library are available.
"""
