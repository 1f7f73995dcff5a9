"""The first process of a container: finds the job and the other nodes, and sees training through.

The same command serves SageMaker, Slurm, Kubeflow and a plain machine: `python -m
containers.entrypoint train [JOB]`. It knows nothing of training beyond its command line,
`python -m training`, and never imports torch.
"""
