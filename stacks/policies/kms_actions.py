"""The KMS actions of a principal that reads encrypted data, and of one that also writes it."""

READ = ["kms:Decrypt", "kms:DescribeKey"]
# GenerateDataKey and ReEncrypt are families of actions (GenerateDataKeyWithoutPlaintext, …).
USE = [*READ, "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"]
