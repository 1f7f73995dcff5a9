"""Kubernetes on HyperPod: the manifests of a run, and how the cluster is asked about them."""
