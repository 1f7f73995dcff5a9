"""Whether a job could run, here and in the account, before anything is paid for: `make doctor`."""
