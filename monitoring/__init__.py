"""Monitoring of deployed models: drift, quality of answers, latency and cost, from logged calls."""
