"""Makes the bucket of EVERGREEN_STORE_URI unless it is there; fails while the S3 server does not answer."""

from __future__ import annotations

import os

import boto3
from botocore.config import Config

bucket = os.environ["EVERGREEN_STORE_URI"].removeprefix("s3://").partition("/")[0]
s3 = boto3.client("s3", config=Config(s3={"addressing_style": "path"}, connect_timeout=2, retries={"max_attempts": 1}))
if bucket not in {found["Name"] for found in s3.list_buckets()["Buckets"]}:
    s3.create_bucket(Bucket=bucket)
