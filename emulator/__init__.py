"""The whole way of a cloud job, walked on this machine: `make rehearse JOB=…`.

The platform is deployed to an emulated account, the job is submitted by the very code that submits
it to a real one, and a stand-in for the training service does with the request what the service
does. docs/launch.md says what that cannot prove.
"""
