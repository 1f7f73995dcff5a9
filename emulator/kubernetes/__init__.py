"""Emulated Kubernetes cluster with AWS's inference operator."""
