"""Access of a running job to its AWS account: secrets, and signed requests.

No other package that runs next to the accelerators uses an AWS SDK. This one imports it on first
use, so a job that needs nothing of the account runs without it.
"""
