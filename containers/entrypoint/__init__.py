"""First process of a container: finds the job and the other nodes, and supervises training.

The same command serves SageMaker, Slurm, Kubeflow and a plain machine: `python -m
containers.entrypoint train [JOB]`. It uses training only through its command line,
`python -m training`, and never imports torch.
"""
