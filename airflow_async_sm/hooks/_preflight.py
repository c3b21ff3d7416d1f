"""The looks that are taken before money is spent. Nothing here changes anything."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TypeVar

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from airflow_async_sm.core import limits
from airflow_async_sm.core.endpoint_states import variant_name
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.preflight import FolderFacts, NotSeen, PreflightFacts
from airflow_async_sm.core.preflight_checks import preflight_checks
from airflow_async_sm.core.scaling import ScalingState
from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.exceptions import SageMakerAsyncError
from airflow_async_sm.hooks._clients import _LOOKING
from airflow_async_sm.hooks._endpoints import EndpointCalls
from airflow_async_sm.hooks._scaling import ScalingCalls
from airflow_async_sm.hooks._translate import error_code, is_denial, status_code

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from airflow_async_sm.core.preflight import Check

T = TypeVar("T")

_SCALING_RIGHTS: Final = (
    "application-autoscaling:DescribeScalableTargets, DescribeScalingPolicies and DescribeScheduledActions, "
    "and cloudwatch:DescribeAlarms"
)
_READING_RIGHTS: Final = "s3:GetObject, or kms:Decrypt for an encrypted object"
# The status of these is 403 too, but no right is what is missing.

# S3 checks rights before it says that an object is empty, or archived.
_READABLE_CODES: Final = frozenset({"InvalidObjectState", "InvalidRange"})
_PROBE: Final = "airflow-async-sm-preflight"


class PreflightCalls(EndpointCalls, ScalingCalls):
    """The part of the hook that looks whether a request could come to a good end."""

    def preflight(self, endpoint_name: str) -> tuple[Check, ...]:
        """
        Look at everything that a request needs, and return what is well and what is not.

        Nothing is changed and nothing is submitted. What cannot be looked at is a warning among the others.

        :param endpoint_name: Name of the endpoint, at most 63 characters.
        :raises InvalidInput: it cannot be the name of an endpoint.
        """
        limits.ENDPOINT_NAME.check("endpoint_name", endpoint_name)
        return preflight_checks(self._preflight_facts(endpoint_name))

    def _preflight_facts(self, endpoint_name: str) -> PreflightFacts:
        if (broken := self._broken_connection()) is not None:
            return PreflightFacts(
                endpoint_name=endpoint_name,
                region="",
                identity=broken,
                endpoint=broken,
                scaling=broken,
                boto3_version=boto3.__version__,
                members=broken,
            )
        endpoint = _look(lambda: self.describe_endpoint(endpoint_name), "sagemaker:DescribeEndpoint")
        described = endpoint if isinstance(endpoint, dict) else {}
        return PreflightFacts(
            endpoint_name=endpoint_name,
            region=_region_of(described) or self._session.region_name,
            identity=_look(lambda: self._sts_looking.get_caller_identity(), "sts:GetCallerIdentity"),
            missing_connection=None if isinstance(self.conn_config.conn_id, str) else self.aws_conn_id,
            endpoint=endpoint,
            scaling=self._scaling_of(endpoint_name, described),
            folders=tuple(self._folders_of(described)),
            boto3_version=boto3.__version__,
            members=_look(self._invocation_members, ""),
        )

    def _broken_connection(self) -> NotSeen | None:
        """Return why there is no way to AWS at all: a connection has many ways to be written wrongly."""
        try:
            region = self._session.region_name
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what the caller has to mend
            return NotSeen(f"The connection cannot be used: {type(error).__name__}: {error}")
        # STS would answer without one, and all would seem well.
        return None if region else NotSeen("There is no AWS region; give one, or set it in the connection.")

    @cached_property
    def _sts_looking(self) -> Any:
        return self._client_for("sts", _LOOKING)

    def _invocation_members(self) -> frozenset[str]:
        shape = self._runtime.meta.service_model.operation_model("InvokeEndpointAsync").input_shape
        return frozenset(shape.members if shape else ())

    def _scaling_of(self, endpoint_name: str, described: Mapping[str, Any]) -> ScalingState | NotSeen:
        if not described:
            return ScalingState()
        return _look(lambda: self.describe_scaling(endpoint_name, variant_name(described)), _SCALING_RIGHTS)

    def _folders_of(self, described: Mapping[str, Any]) -> Iterator[FolderFacts]:
        output = described.get("AsyncInferenceConfig", {}).get("OutputConfig", {})
        for name, member in (("output", "S3OutputPath"), ("failure", "S3FailurePath")):
            if uri := output.get(member):
                yield self._folder(name, uri)

    def _folder(self, name: str, uri: str) -> FolderFacts:
        try:
            place = S3Uri.parse(uri, argument=f"the {name} path")
        except InvalidInput as error:
            unread = NotSeen(str(error))
            return FolderFacts(name=name, uri=uri, region=unread, sample=unread)
        region = _look(lambda: self._bucket_region(place.bucket), "s3:ListBucket")
        if region is None:
            return FolderFacts(name=name, uri=uri, region=None)
        folder = f"{place.key.rstrip('/')}/" if place.key else ""
        sample = _look(lambda: self._first_key(place.bucket, folder), "s3:ListBucket")
        encrypted = None
        if not isinstance(sample, NotSeen):
            encrypted = _look(lambda: self._read(place.bucket, folder, sample), _READING_RIGHTS)
        return FolderFacts(name=name, uri=uri, region=region, sample=sample, encrypted=encrypted)

    def _bucket_region(self, bucket: str) -> str | None:
        try:
            reply: Any = self._s3_looking.head_bucket(Bucket=bucket)
        except ClientError as error:
            # S3 tells the region also to who may not see the bucket.
            reply = error.response
            if status_code(error) == 404:
                return None
            if not _region_in(reply):
                raise
        return _region_in(reply)

    def _first_key(self, bucket: str, folder: str) -> str | None:
        reply = self._s3_looking.list_objects_v2(Bucket=bucket, Prefix=folder, MaxKeys=1)
        return next((one["Key"] for one in reply.get("Contents", ())), None)

    def _read(self, bucket: str, folder: str, sample: str | None) -> bool:
        """Read an object, or one that is not there; return whether a KMS key was needed for it."""
        key = sample or f"{folder}{_PROBE}"
        try:
            reply = self._s3_looking.get_object(Bucket=bucket, Key=key, Range="bytes=0-0")
        except ClientError as error:
            if status_code(error) == 404 or error_code(error) in _READABLE_CODES:
                return False
            raise
        reply["Body"].close()
        return reply.get("ServerSideEncryption", "").startswith("aws:kms")


def _look(look: Callable[[], T], right: str) -> T | NotSeen:
    """Return what a look saw, or why it saw nothing; one such reason must not hide the other looks."""
    try:
        return look()
    except (SageMakerAsyncError, BotoCoreError, ClientError) as error:
        cause = error.__cause__ if isinstance(error, SageMakerAsyncError) and error.__cause__ else error
        return NotSeen(_said(cause), right if is_denial(cause) else "")


def _said(error: BaseException) -> str:
    if not isinstance(error, ClientError):
        return str(error)
    message = error.response.get("Error", {}).get("Message", "")
    return f"{error.operation_name} answers {error_code(error)}: {message}"


def _region_of(described: Mapping[str, Any]) -> str:
    """Return the region of an endpoint, which its ARN names."""
    return str(described.get("EndpointArn", "")).partition(":sagemaker:")[2].partition(":")[0]


def _region_in(reply: Mapping[str, Any]) -> str:
    headers = reply.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return str(headers.get("x-amz-bucket-region", ""))
