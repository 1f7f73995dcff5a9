"""Deployments of registered models to AWS: deploy, swap, undeploy, and what runs."""
