"""Are locks really kept by the servers that the tests rest on? Run by ./check."""

import datetime
import json
import os
import sys
import uuid

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

failures = 0


def client(server, role=""):
    def setting(name):
        return os.environ[f"KEEPHOLD_TEST_{server}_{name}"]

    return boto3.client(
        "s3",
        endpoint_url=setting("ENDPOINT"),
        region_name=setting("REGION"),
        aws_access_key_id=setting(role + "ACCESS_KEY_ID"),
        aws_secret_access_key=setting(role + "SECRET_ACCESS_KEY"),
        config=Config(
            s3={"addressing_style": "path"},
            retries={"max_attempts": 3},
            # Ceph 16 knows no checksums in trailers.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


def report(good, text):
    global failures
    failures += not good
    print(("ok      " if good else "FAILED  ") + text, flush=True)


def refused(text, call, *codes):
    try:
        call()
    except ClientError as error:
        code = error.response["Error"]["Code"]
        report(code in codes, f"{text}: refused with {code}")
    else:
        report(False, f"{text}: was let through")


def check_lock(server):
    s3 = client(server)
    bucket = "check-" + uuid.uuid4().hex
    s3.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    until = now + datetime.timedelta(days=1)
    version = s3.put_object(
        Bucket=bucket, Key="locked", Body=b"kept", ObjectLockMode="COMPLIANCE",
        ObjectLockRetainUntilDate=until, ContentMD5="TYtghPPRZ7dsrGaiKpG+Ag==",
    )["VersionId"]
    one = {"Bucket": bucket, "Key": "locked", "VersionId": version}
    seen = s3.get_object_retention(**one)["Retention"]
    report(seen == {"Mode": "COMPLIANCE", "RetainUntilDate": until},
           f"{server}: the lock that was asked for is there")
    refused(f"{server}: delete a locked version",
            lambda: s3.delete_object(**one), "AccessDenied")
    refused(f"{server}: the same with bypass",
            lambda: s3.delete_object(**one, BypassGovernanceRetention=True), "AccessDenied")
    sooner = {"Mode": "COMPLIANCE", "RetainUntilDate": until - datetime.timedelta(hours=12)}
    refused(f"{server}: shorten its lock",
            lambda: s3.put_object_retention(**one, Retention=sooner),
            "AccessDenied", "InvalidRequest")
    s3.delete_object(Bucket=bucket, Key="locked")
    report(s3.get_object(**one)["Body"].read() == b"kept",
           f"{server}: the version outlives a delete marker")
    return s3, bucket


def check_roles(owner, bucket):
    stranger = boto3.client(
        "s3", endpoint_url=os.environ["KEEPHOLD_TEST_CEPH_ENDPOINT"], region_name="us-east-1",
        aws_access_key_id=os.environ["KEEPHOLD_TEST_CEPH_ACCESS_KEY_ID"],
        aws_secret_access_key="wrong")
    refused("CEPH: a wrong secret", stranger.list_buckets, "SignatureDoesNotMatch")
    roles = {name: client("CEPH", name.upper() + "_")
             for name in ("writer", "verifier", "pruner", "prober")}
    for name, s3 in roles.items():
        refused(f"CEPH: {name} without a policy", lambda s3=s3: s3.list_objects_v2(Bucket=bucket),
                "AccessDenied")
    owner.put_bucket_policy(Bucket=bucket, Policy=json.dumps({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Allow", "Principal": {"AWS": ["arn:aws:iam:::user/writer"]},
            "Action": ["s3:PutObject"], "Resource": [f"arn:aws:s3:::{bucket}/*"]}]}))
    roles["writer"].put_object(Bucket=bucket, Key="new", Body=b"")
    report(True, "CEPH: writer may put, once a policy says so")
    refused("CEPH: writer deletes", lambda: roles["writer"].delete_object(
        Bucket=bucket, Key="new"), "AccessDenied")


check_lock("LOCALSTACK")
check_roles(*check_lock("CEPH"))
if failures:
    sys.exit(f"{failures} of the checks failed: no test of a lock can rest on these servers")
print("both servers keep locks: a locked version can be neither deleted nor shortened")
