"""Search by SageMaker's automatic model tuning: the request, the job, and its trials.

https://docs.aws.amazon.com/sagemaker/latest/dg/automatic-model-tuning.html
"""
