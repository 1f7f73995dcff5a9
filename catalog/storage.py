"""Price of object storage."""

S3_USD_PER_GIB_MONTH = 0.023
S3_SOURCE = "S3 Standard, us-east-1; a third party's page read in November 2026"
