"""Operations of Amazon Bedrock that the targets of deployments share."""
