"""The KMS actions of a principal that reads encrypted data, writes it, or restores the key."""

READ = ["kms:Decrypt", "kms:DescribeKey"]
# GenerateDataKey and ReEncrypt are families of actions (GenerateDataKeyWithoutPlaintext, …).
USE = [*READ, "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"]
# Undo that a key was disabled or scheduled for deletion.
RESTORE = ["kms:CancelKeyDeletion", "kms:DescribeKey", "kms:EnableKey"]
