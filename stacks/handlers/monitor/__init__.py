"""Lambda function that judges running jobs, endpoints and training plans every five minutes.

AWS has no metric for any of these faults. Each module is one check; `main` runs them all.
"""
