"""Emulation of a SageMaker training job's complete path on this machine: `temper rehearse JOB`.

The platform is deployed to an emulated AWS account, the job is submitted by the same code that
submits it to a real one, and an emulated training service executes the request: it fills
`/opt/ml`, runs the container, synchronizes checkpoints, and writes logs, metrics and events.
docs/launch.md lists what that cannot prove.
"""
