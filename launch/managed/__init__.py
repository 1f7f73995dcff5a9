"""Managed customization: data in the providers' formats, requests, graders."""
