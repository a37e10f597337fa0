"""What tests do to S3 servers from outside: one JSON request a line in, one JSON answer a line out."""

import base64
import datetime
import json
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

clients = {}


def client(request):
    key = (request["endpoint"], request["id"], request["secret"])
    if key not in clients:
        clients[key] = boto3.client(
            "s3",
            endpoint_url=key[0],
            aws_access_key_id=key[1],
            aws_secret_access_key=key[2],
            region_name="us-east-1",
            config=Config(
                s3={"addressing_style": "path"},
                signature_version="s3v4",
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )
    return clients[key]


def named(request):
    found = {"Bucket": request["bucket"], "Key": request["key"]}
    if request.get("version"):
        found["VersionId"] = request["version"]
    return found


def when(text):
    return datetime.datetime.fromisoformat(text)


def make_bucket(s3, request):
    s3.create_bucket(Bucket=request["bucket"], ObjectLockEnabledForBucket=request["lock"])


def policy(s3, request):
    s3.put_bucket_policy(Bucket=request["bucket"], Policy=json.dumps(request["policy"]))


def lifecycle(s3, request):
    rule = {
        "ID": "tidy",
        "Status": "Enabled",
        "Filter": {"Prefix": request["prefix"]},
        "Expiration": {"Days": request["days"]},
    }
    s3.put_bucket_lifecycle_configuration(
        Bucket=request["bucket"], LifecycleConfiguration={"Rules": [rule]}
    )


def versions(s3, request):
    found = []
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=request["bucket"], Prefix=request["prefix"]):
        for marker, group in ((False, "Versions"), (True, "DeleteMarkers")):
            for one in page.get(group, []):
                found.append(
                    {
                        "key": one["Key"],
                        "version": one["VersionId"],
                        "size": one.get("Size", 0),
                        "latest": one["IsLatest"],
                        "marker": marker,
                    }
                )
    return found


def get(s3, request):
    return base64.b64encode(s3.get_object(**named(request))["Body"].read()).decode()


def put(s3, request):
    lock = {}
    if request.get("mode"):
        lock = {"ObjectLockMode": request["mode"], "ObjectLockRetainUntilDate": when(request["until"])}
    body = base64.b64decode(request["body"])
    return s3.put_object(**named(request), Body=body, ChecksumAlgorithm="SHA256", **lock).get("VersionId")


def delete(s3, request):
    bypass = {"BypassGovernanceRetention": True} if request.get("bypass") else {}
    s3.delete_object(**named(request), **bypass)


def retention(s3, request):
    found = s3.get_object_retention(**named(request))["Retention"]
    return {"mode": found["Mode"], "until": found["RetainUntilDate"].isoformat()}


def set_retention(s3, request):
    bypass = {"BypassGovernanceRetention": True} if request.get("bypass") else {}
    # Without a mode, the lock is taken away.
    lock = {"Mode": request["mode"], "RetainUntilDate": when(request["until"])} if request["mode"] else {}
    s3.put_object_retention(**named(request), Retention=lock, **bypass)


def call(s3, request):
    return getattr(s3, request["operation"])(**request["arguments"]).get("VersionId")


for line in sys.stdin:
    request = json.loads(line)
    try:
        answer = {"ok": globals()[request["do"]](client(request), request)}
    except ClientError as error:
        answer = {"error": error.response["Error"]["Code"]}
    print(json.dumps(answer), flush=True)
