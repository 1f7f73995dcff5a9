"""Deployments on a HyperPod cluster, by AWS's inference operator."""
