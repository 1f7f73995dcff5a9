"""IAM statements of the roles: one file per role, whose function returns its statements."""
