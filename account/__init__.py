"""The one door from a running job to the AWS account it is in: secrets, and signed calls.

Nothing else that runs where the accelerators are knows an AWS SDK, and what is here loads one only
when it is asked for something: a job that needs nothing of the account needs none installed.
"""
