"""
Which AWS call an HTTP request is.

All services share one address, so a call has to be read from what its protocol leaves in the request: a
header, the path, a form, or for S3 the method, the path and the names in the query.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl

from airflow_async_sm.emulator.reaching import INTERNAL_AGENT


class Protocol(StrEnum):
    """How a service's clients write calls and read answers."""

    JSON = "json"
    REST_JSON = "rest-json"
    QUERY = "query"
    CBOR = "cbor"
    S3 = "s3"


class Call(NamedTuple):
    """
    One call. What cannot be known is ``None``.

    :param service: The service, as boto3 names its client.
    :param operation: The operation, as in the API.
    :param protocol: The protocol of an answer.
    :param region: The region that the request is signed for.
    :param access_key_id: Whose request it is.
    :param endpoint: The SageMaker endpoint in the path.
    :param bucket: The S3 bucket.
    :param head: Whether the answer has no body.
    :param internal: Whether the emulator calls itself.
    """

    service: str | None
    operation: str | None
    protocol: Protocol
    region: str | None = None
    access_key_id: str | None = None
    endpoint: str | None = None
    bucket: str | None = None
    head: bool = False
    internal: bool = False


class _Scope(NamedTuple):
    """What a signature says about a request."""

    access_key_id: str | None = None
    region: str | None = None
    service: str | None = None


_TARGETS: Final = {
    "SageMaker": "sagemaker",
    "AnyScaleFrontendService": "application-autoscaling",
    "AmazonSQS": "sqs",
    "GraniteServiceVersion20100801": "cloudwatch",
    "Logs_20140328": "logs",
}
_SIGNING_NAMES: Final = {"monitoring": "cloudwatch"}
# Services that answer in XML, by the names that they are signed for. The others, S3 aside, answer in JSON.
_XML: Final = frozenset(
    {
        "autoscaling",
        "cloudformation",
        "cloudfront",
        "ec2",
        "elasticloadbalancing",
        "iam",
        "rds",
        "redshift",
        "route53",
        "sns",
        "sts",
    }
)

_CREDENTIAL: Final = re.compile(r"Credential=([^/\s,]+)/\d{8}/([^/]+)/([^/]+)/aws4_request")
_OLD_CREDENTIAL: Final = re.compile(r"AWS ([^:\s]+):")
_RUNTIME: Final = re.compile(
    r"/endpoints/([^/]+)/(async-invocations|invocations|invocations-response-stream)"
)
_RUNTIME_CALLS: Final = {
    "async-invocations": "InvokeEndpointAsync",
    "invocations": "InvokeEndpoint",
    "invocations-response-stream": "InvokeEndpointWithResponseStream",
}
_CBOR: Final = re.compile(r"/service/([^/]+)/operation/([^/]+)")

# Names in the query that make another call of the same method and path.
_BUCKET_PARTS: Final = {
    "abac": "BucketAbac",
    "accelerate": "BucketAccelerateConfiguration",
    "acl": "BucketAcl",
    "analytics": "BucketAnalyticsConfiguration",
    "cors": "BucketCors",
    "encryption": "BucketEncryption",
    "intelligent-tiering": "BucketIntelligentTieringConfiguration",
    "inventory": "BucketInventoryConfiguration",
    "lifecycle": "BucketLifecycleConfiguration",
    "location": "BucketLocation",
    "logging": "BucketLogging",
    "metrics": "BucketMetricsConfiguration",
    "notification": "BucketNotificationConfiguration",
    "object-lock": "ObjectLockConfiguration",
    "ownershipControls": "BucketOwnershipControls",
    "policy": "BucketPolicy",
    "policyStatus": "BucketPolicyStatus",
    "publicAccessBlock": "PublicAccessBlock",
    "replication": "BucketReplication",
    "requestPayment": "BucketRequestPayment",
    "tagging": "BucketTagging",
    "versioning": "BucketVersioning",
    "website": "BucketWebsite",
}
_KEY_PARTS: Final = {
    "acl": "ObjectAcl",
    "attributes": "ObjectAttributes",
    "legal-hold": "ObjectLegalHold",
    "retention": "ObjectRetention",
    "tagging": "ObjectTagging",
    "torrent": "ObjectTorrent",
}
_VERBS: Final = {"GET": "Get", "PUT": "Put", "DELETE": "Delete"}
_ON_BUCKET: Final = {
    **{
        (method, part): verb + name for method, verb in _VERBS.items() for part, name in _BUCKET_PARTS.items()
    },
    ("GET", "versions"): "ListObjectVersions",
    ("GET", "uploads"): "ListMultipartUploads",
    ("GET", "list-type"): "ListObjectsV2",
    ("POST", "delete"): "DeleteObjects",
    ("DELETE", "lifecycle"): "DeleteBucketLifecycle",
}
_ON_KEY: Final = {
    **{(method, part): verb + name for method, verb in _VERBS.items() for part, name in _KEY_PARTS.items()},
    ("GET", "uploadId"): "ListParts",
    ("PUT", "uploadId"): "UploadPart",
    ("POST", "uploads"): "CreateMultipartUpload",
    ("POST", "uploadId"): "CompleteMultipartUpload",
    ("POST", "restore"): "RestoreObject",
    ("POST", "select"): "SelectObjectContent",
    ("DELETE", "uploadId"): "AbortMultipartUpload",
}
_PLAIN_ON_BUCKET: Final = {
    "GET": "ListObjects",
    "HEAD": "HeadBucket",
    "PUT": "CreateBucket",
    "POST": "PostObject",
    "DELETE": "DeleteBucket",
}
_PLAIN_ON_KEY: Final = {
    "GET": "GetObject",
    "HEAD": "HeadObject",
    "PUT": "PutObject",
    "DELETE": "DeleteObject",
}

# Hosts that are an address or a plain name: the bucket is in the path. It is moto's rule, which answers.
_PATH_STYLE: Final = re.compile(r"localhost|localstack|host\.docker\.internal|[^.]+$|[\d.]+(:\d+)?$|\[")


def is_form(environ: Mapping[str, Any]) -> bool:
    """Return whether a request's body is a form, in which services of the query protocol name the call."""
    kind: str = environ.get("CONTENT_TYPE", "")
    return kind.startswith("application/x-www-form-urlencoded")


def is_internal(environ: Mapping[str, Any]) -> bool:
    """Return whether the emulator calls itself."""
    return INTERNAL_AGENT in environ.get("HTTP_USER_AGENT", "")


def identify(environ: Mapping[str, Any], form: bytes = b"") -> Call:
    """
    Return which call a request is.

    :param environ: The request's WSGI environment.
    :param form: Its body, if :func:`is_form` says that it is needed.
    """
    scope = _scope(environ)
    internal = is_internal(environ)
    head = environ["REQUEST_METHOD"] == "HEAD"
    call = (
        _by_target(environ, scope)
        or _by_path(environ, scope)
        or _by_action(environ, scope, form)
        or (_s3(environ, scope) if scope.service in ("s3", None) else _other(scope))
    )
    return call._replace(internal=internal, head=head) if internal or head else call


def _scope(environ: Mapping[str, Any]) -> _Scope:
    header: str = environ.get("HTTP_AUTHORIZATION", "")
    if found := _CREDENTIAL.search(header):
        return _Scope(*found.groups())
    if found := _OLD_CREDENTIAL.match(header):
        return _Scope(found[1], None, "s3")
    query: str = environ.get("QUERY_STRING", "")
    if "X-Amz-Credential=" in query:
        names = dict(parse_qsl(query))
        if found := _CREDENTIAL.fullmatch(f"Credential={names.get('X-Amz-Credential', '')}"):
            return _Scope(*found.groups())
    elif "AWSAccessKeyId=" in query:
        return _Scope(dict(parse_qsl(query)).get("AWSAccessKeyId"), None, "s3")
    return _Scope()


def _by_target(environ: Mapping[str, Any], scope: _Scope) -> Call | None:
    target: str | None = environ.get("HTTP_X_AMZ_TARGET")
    if target is None:
        return None
    prefix, _, operation = target.partition(".")
    return Call(
        _TARGETS.get(prefix, scope.service), operation, Protocol.JSON, scope.region, scope.access_key_id
    )


def _by_path(environ: Mapping[str, Any], scope: _Scope) -> Call | None:
    path: str = environ["PATH_INFO"]
    if environ["REQUEST_METHOD"] != "POST":
        return None
    if scope.service in ("sagemaker", None) and (found := _RUNTIME.fullmatch(path)):
        return Call(
            "sagemaker-runtime",
            _RUNTIME_CALLS[found[2]],
            Protocol.REST_JSON,
            scope.region,
            scope.access_key_id,
            found[1],
        )
    if scope.service != "s3" and (found := _CBOR.fullmatch(path)):
        service = _TARGETS.get(found[1], scope.service)
        return Call(service, found[2], Protocol.CBOR, scope.region, scope.access_key_id)
    return None


def _by_action(environ: Mapping[str, Any], scope: _Scope, form: bytes) -> Call | None:
    query: str = environ.get("QUERY_STRING", "")
    if scope.service == "s3" or not (form or "Action=" in query):
        return None
    action = dict(parse_qsl(form.decode("latin-1") or query)).get("Action")
    if action is None:
        return None
    service = _SIGNING_NAMES.get(scope.service or "", scope.service)
    return Call(service, action, Protocol.QUERY, scope.region, scope.access_key_id)


def _other(scope: _Scope) -> Call:
    service = _SIGNING_NAMES.get(scope.service or "", scope.service)
    protocol = Protocol.QUERY if scope.service in _XML else Protocol.REST_JSON
    return Call(service, None, protocol, scope.region, scope.access_key_id)


def _s3(environ: Mapping[str, Any], scope: _Scope) -> Call:
    path: str = environ["PATH_INFO"]
    host: str = environ.get("HTTP_HOST", "")
    if _PATH_STYLE.match(host):
        bucket, _, key = path.lstrip("/").partition("/")
    else:
        bucket, key = host.split(".", 1)[0], path.lstrip("/")
    operation = _s3_operation(environ, bool(bucket), bool(key))
    return Call("s3", operation, Protocol.S3, scope.region, scope.access_key_id, None, bucket or None)


def _s3_operation(environ: Mapping[str, Any], bucket: bool, key: bool) -> str | None:
    method: str = environ["REQUEST_METHOD"]
    if not bucket:
        return "ListBuckets" if method == "GET" else None
    special, plain = (_ON_KEY, _PLAIN_ON_KEY) if key else (_ON_BUCKET, _PLAIN_ON_BUCKET)
    operation = plain.get(method)
    query: str = environ.get("QUERY_STRING", "")
    for name in query.split("&") if query else ():
        operation = special.get((method, name.partition("=")[0]), operation)
    if method == "PUT" and "HTTP_X_AMZ_COPY_SOURCE" in environ:
        return {"PutObject": "CopyObject", "UploadPart": "UploadPartCopy"}.get(operation or "", operation)
    return operation
