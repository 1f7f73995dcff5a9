"""Kubernetes on HyperPod: the manifests of a run, and the client of the cluster."""
