"""What boto3 sends is recognised as what was called. Nothing leaves the process."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes, urlsplit

import boto3
import pytest
from botocore.config import Config

from airflow_async_sm.emulator.reaching import INTERNAL_AGENT
from airflow_async_sm.emulator.web.calls import Call, Protocol, identify, is_form

URL = "http://127.0.0.1:4000"
# One session, because each reads the models of all services anew.
SESSION = boto3.Session("AKIDEXAMPLE", "secret", region_name="eu-west-1")


class Caught(Exception):
    def __init__(self, request):
        super().__init__()
        self.request = request


def catch(request, **_):
    raise Caught(request)


def environ_of(method, url, headers=()):
    address = urlsplit(url)
    environ = {
        "REQUEST_METHOD": method,
        "PATH_INFO": unquote_to_bytes(address.path).decode("latin-1") or "/",
        "QUERY_STRING": address.query,
        "HTTP_HOST": address.netloc,
    }
    for name, value in dict(headers).items():
        key = name.upper().replace("-", "_")
        text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
        environ[key if key == "CONTENT_TYPE" else f"HTTP_{key}"] = text
    return environ


def make_client(service, *, url=URL, **config):
    client = SESSION.client(
        service,
        endpoint_url=url,
        config=Config(proxies={}, retries={"total_max_attempts": 1}, **config),
    )
    client.meta.events.register("before-send", catch)
    return client


def called(service, operation, *, url=URL, config=None, **members):
    client = make_client(service, url=url, **(config or {}))
    with pytest.raises(Caught) as caught:
        getattr(client, operation)(**members)
    client.close()
    request = caught.value.request
    environ = environ_of(request.method, request.url, request.headers)
    body = request.body.encode() if isinstance(request.body, str) else request.body
    return identify(environ, body if is_form(environ) else b"")


TARGET = {
    "ServiceNamespace": "sagemaker",
    "ResourceId": "endpoint/e/variant/v",
    "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
}
METRIC = {"Namespace": "n", "MetricData": [{"MetricName": "m", "Value": 1}]}


@pytest.mark.parametrize(
    ("service", "operation", "members", "protocol"),
    [
        ("sagemaker", "DescribeEndpoint", {"EndpointName": "e"}, Protocol.JSON),
        ("sagemaker", "ListEndpoints", {}, Protocol.JSON),
        ("application-autoscaling", "RegisterScalableTarget", TARGET, Protocol.JSON),
        ("sqs", "ReceiveMessage", {"QueueUrl": f"{URL}/123/q"}, Protocol.JSON),
        ("logs", "DescribeLogGroups", {}, Protocol.JSON),
        ("sns", "Publish", {"TopicArn": "arn:t", "Message": "a=b&Action=Other"}, Protocol.QUERY),
        ("sts", "GetCallerIdentity", {}, Protocol.QUERY),
        # botocore has changed the protocol of this one more than once.
        ("cloudwatch", "PutMetricData", METRIC, None),
        ("cloudwatch", "DescribeAlarms", {}, None),
    ],
)
def test_call_of_a_service(service, operation, members, protocol):
    method = "".join(f"_{c.lower()}" if c.isupper() else c for c in operation).removeprefix("_")
    call = called(service, method, **members)
    assert call == Call(service, operation, protocol or call.protocol, "eu-west-1", "AKIDEXAMPLE")


def test_call_in_cbor():
    path = "/service/GraniteServiceVersion20100801/operation/PutMetricData"
    scope = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260101/eu-west-1/monitoring/aws4_request, Signature=x"
    call = identify(environ_of("POST", URL + path, {"Authorization": scope}))
    assert call == Call("cloudwatch", "PutMetricData", Protocol.CBOR, "eu-west-1", "AKIDEXAMPLE")


@pytest.mark.parametrize(
    ("service", "protocol"),
    [("route53", Protocol.QUERY), ("sts", Protocol.QUERY), ("lambda", Protocol.REST_JSON)],
)
def test_call_that_only_its_path_tells_from_others_has_the_protocol_of_its_service(service, protocol):
    scope = f"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260101/eu-west-1/{service}/aws4_request, Signature=x"
    call = identify(environ_of("GET", f"{URL}/some/path", {"Authorization": scope}))
    assert call == Call(service, None, protocol, "eu-west-1", "AKIDEXAMPLE")


@pytest.mark.parametrize(
    ("operation", "members", "name"),
    [
        ("invoke_endpoint_async", {"Body": b"x"}, "InvokeEndpointAsync"),
        ("invoke_endpoint", {"Body": b"x"}, "InvokeEndpoint"),
        ("invoke_endpoint_with_response_stream", {"Body": b"x"}, "InvokeEndpointWithResponseStream"),
    ],
)
def test_call_of_the_runtime_has_its_endpoint(operation, members, name):
    call = called("sagemaker-runtime", operation, EndpointName="my-endpoint", **members)
    assert call[:6] == (
        "sagemaker-runtime",
        name,
        Protocol.REST_JSON,
        "eu-west-1",
        "AKIDEXAMPLE",
        "my-endpoint",
    )


B, K = {"Bucket": "a-bucket"}, {"Bucket": "a-bucket", "Key": "some/key ö"}
UPLOAD = {**K, "UploadId": "u"}
S3_CALLS = [
    ("ListBuckets", {}),
    ("CreateBucket", B),
    ("HeadBucket", B),
    ("DeleteBucket", B),
    ("ListObjects", {**B, "Prefix": "delete/uploads"}),
    ("ListObjectsV2", {**B, "Prefix": "x"}),
    ("ListObjectVersions", B),
    ("ListMultipartUploads", B),
    ("DeleteObjects", {**B, "Delete": {"Objects": [{"Key": "k"}]}}),
    ("GetBucketLocation", B),
    ("GetBucketPolicy", B),
    ("PutBucketPolicy", {**B, "Policy": "{}"}),
    ("DeleteBucketLifecycle", B),
    ("GetBucketVersioning", B),
    ("GetPublicAccessBlock", B),
    ("HeadObject", K),
    ("GetObject", {**K, "VersionId": "7"}),
    ("PutObject", {**K, "Body": b"x"}),
    ("CopyObject", {**K, "CopySource": "other/key"}),
    ("DeleteObject", K),
    ("GetObjectTagging", K),
    ("PutObjectAcl", {**K, "ACL": "private"}),
    ("CreateMultipartUpload", K),
    ("UploadPart", {**UPLOAD, "PartNumber": 1, "Body": b"x"}),
    ("UploadPartCopy", {**UPLOAD, "PartNumber": 1, "CopySource": "other/key"}),
    ("CompleteMultipartUpload", {**UPLOAD, "MultipartUpload": {"Parts": []}}),
    ("AbortMultipartUpload", UPLOAD),
    ("ListParts", UPLOAD),
]


@pytest.mark.parametrize("style", ["path", "virtual"])
@pytest.mark.parametrize(("operation", "members"), S3_CALLS, ids=[name for name, _ in S3_CALLS])
def test_call_of_s3(operation, members, style):
    method = "list_objects_v2" if operation == "ListObjectsV2" else None
    method = method or "".join(f"_{c.lower()}" if c.isupper() else c for c in operation).removeprefix("_")
    virtual = style == "virtual"
    call = called(
        "s3",
        method,
        url="http://s3.localhost.test:4000" if virtual else URL,
        config={"s3": {"addressing_style": style}},
        **members,
    )
    if virtual and (not members or operation == "GetBucketLocation"):
        # Clients send these to the host's own name, which cannot be told from a bucket's.
        return
    assert call == Call(
        "s3",
        operation,
        Protocol.S3,
        "eu-west-1",
        "AKIDEXAMPLE",
        None,
        members.get("Bucket"),
        head=operation.startswith("Head"),
    )


@pytest.mark.parametrize("version", ["s3", "s3v4"])
@pytest.mark.parametrize(
    ("operation", "name"), [("get_object", "GetObject"), ("put_object", "PutObject")], ids=["get", "put"]
)
def test_presigned_address(version, operation, name):
    client = make_client("s3", signature_version=version, s3={"addressing_style": "path"})
    url = client.generate_presigned_url(operation, Params={"Bucket": "a-bucket", "Key": "k"})
    client.close()
    call = identify(environ_of(name[:3].upper(), url))
    assert (call.service, call.operation, call.bucket) == ("s3", name, "a-bucket")
    assert call.access_key_id == "AKIDEXAMPLE"
    # The older signature does not say where it is meant for.
    assert call.region == ("eu-west-1" if version == "s3v4" else None)


def test_query_protocol_in_the_address():
    call = identify(environ_of("GET", f"{URL}/?Action=ConfirmSubscription&Token=t"))
    assert (call.service, call.operation, call.protocol) == (None, "ConfirmSubscription", Protocol.QUERY)


def test_unsigned_request_is_one_of_s3_without_region():
    call = identify(environ_of("GET", f"{URL}/a-bucket/k"))
    assert call == Call("s3", "GetObject", Protocol.S3, None, None, None, "a-bucket")


@pytest.mark.parametrize("host", ["localhost:4000", "emulator:4000", "127.0.0.1", "[::1]:4000"])
def test_bucket_is_in_the_path_of_an_address(host):
    assert identify(environ_of("PUT", f"http://{host}/a-bucket/k")).bucket == "a-bucket"


def test_key_below_the_runtimes_path_is_still_a_key():
    call = called("s3", "create_multipart_upload", Bucket="endpoints", Key="a/invocations")
    assert (call.service, call.operation) == ("s3", "CreateMultipartUpload")


def test_unknown_service_is_named_as_it_is_signed():
    call = called("iam", "list_roles")
    assert (call.service, call.operation, call.protocol) == ("iam", "ListRoles", Protocol.QUERY)
    call = called("lambda", "list_functions")
    assert (call.service, call.operation, call.protocol) == ("lambda", None, Protocol.REST_JSON)


def test_own_calls_are_marked():
    assert called("sts", "get_caller_identity", config={"user_agent_extra": INTERNAL_AGENT}).internal
    assert not called("sts", "get_caller_identity").internal
