"""Lambda code: one file per function, none importing another; boto3 and the standard library only.

The folder is the asset, so a file's name is its module name in the function.
"""
