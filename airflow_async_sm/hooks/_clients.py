"""One session a connection, and one client a service, all with the same settings."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakValueDictionary

import boto3
from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
from botocore.client import BaseClient
from botocore.config import Config

from airflow_async_sm import __version__
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.hooks._listings import only_keys
from airflow_async_sm.hooks._translate import translated

if TYPE_CHECKING:
    from collections.abc import Mapping

    from botocore.model import OperationModel
    from mypy_boto3_application_autoscaling import ApplicationAutoScalingClient
    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sagemaker import SageMakerClient
    from mypy_boto3_sagemaker_runtime import SageMakerRuntimeClient

    from airflow_async_sm.core.aws import AwsParams


_SHARED: WeakValueDictionary[Any, Any] = WeakValueDictionary()
_MAKING = threading.Lock()

# So many threads look at the same time, at most.
LOOKERS = 16

# So many threads submit at the same time, at most.
SUBMITTERS = 64

# A look that is stuck must not outlive the deadline by minutes: the next look is its retry.
_LOOKING = Config(
    connect_timeout=5,
    read_timeout=10,
    retries={"total_max_attempts": 1},
    max_pool_connections=LOOKERS,
)


class AwsClients(AwsBaseHook):
    """
    The clients of one connection, each made when it is first needed.

    The amazon provider's own hook serves one service. Asynchronous inference needs three, and a session for
    each would fetch the connection, and assume its role, three times.
    """

    def __init__(
        self,
        aws_conn_id: str | None = "aws_default",
        *,
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            aws_conn_id=aws_conn_id,
            region_name=region_name,
            verify=verify,
            config=dict(botocore_config) if botocore_config is not None else None,
            client_type="sagemaker",
        )
        self._making = threading.RLock()
        self._calls: Counter[str] = Counter()

    @classmethod
    def from_params(cls, params: AwsParams) -> Self:
        """
        Return the hook that reaches AWS as ``params`` say.

        :raises InvalidInput: ``botocore_config`` has an argument that botocore does not know.
        """
        try:
            return cls(
                params.aws_conn_id,
                region_name=params.region_name,
                verify=params.verify,
                botocore_config=params.botocore_config,
            )
        except TypeError as error:
            raise InvalidInput(f"botocore_config cannot be used: {error}.") from error

    @classmethod
    def shared(cls, params: AwsParams) -> Self:
        """
        Return the one hook of this process that reaches AWS as ``params`` say, while anybody has it.

        A session and its clients cost a tenth of a second and ten megabytes: a thousand waits cannot each
        have their own.
        """
        key = (cls, json.dumps(params.to_dict(), sort_keys=True))
        with _MAKING:
            hook = _SHARED.get(key)
            if hook is None:
                hook = _SHARED[key] = cls.from_params(params)
        return hook

    def retire(self) -> None:
        """Let whoever asks for a shared hook from now on get a new one."""
        with _MAKING:
            for key in [key for key, hook in _SHARED.items() if hook is self]:
                del _SHARED[key]

    def connect(self) -> None:
        """Fetch the connection. What uses it later needs nothing of Airflow any more."""
        _ = self._session, self.conn_config

    def close(self) -> None:
        """Close the connections. A client that is used later opens new ones."""
        for client in [each for each in list(vars(self).values()) if isinstance(each, BaseClient)]:
            client.close()

    @cached_property
    def _session(self) -> boto3.session.Session:
        session: boto3.session.Session = self.get_session(region_name=self.region_name)
        return session

    @property
    def region(self) -> str:
        """The AWS region that the clients talk to."""
        return str(self._session.region_name)

    @property
    def partition(self) -> str:
        """The AWS partition of the region: ``aws``, ``aws-us-gov``, ``aws-cn``."""
        return str(self._session.get_partition_for_region(self.region))

    @property
    def endpoint_url(self) -> str:
        """The address at which SageMaker's control plane is reached."""
        return str(self._sagemaker_looking.meta.endpoint_url)

    @cached_property
    def expected_bucket_owner(self) -> str | None:
        """
        The account that has to own all buckets: the connection's extra ``expected_bucket_owner``.

        :raises InvalidInput: it is no account number.
        """
        owner = self.conn_config.extra_config.get("expected_bucket_owner")
        if owner is not None and not re.fullmatch(r"[0-9]{12}", str(owner)):
            raise InvalidInput(
                f"The extra expected_bucket_owner of connection {self.aws_conn_id!r} is {owner!r}; an "
                "account number of 12 digits is needed."
            )
        return None if owner is None else str(owner)

    @cached_property
    def work_prefix(self) -> str | None:
        """The folder for uploads and records: the connection's extra ``work_prefix``, an S3 URI."""
        prefix = self.conn_config.extra_config.get("work_prefix")
        if prefix is not None:
            S3Uri.parse(str(prefix), argument=f"The extra work_prefix of connection {self.aws_conn_id!r}")
        return None if prefix is None else str(prefix)

    def _client_for(self, service: str, config: Config | None = None) -> Any:
        # Clients serve many threads, but connection, session and client are made in one.
        with self._making, translated(f"make a client for {service}"):
            given = getattr(self.config, "user_agent_extra", None) or ""
            agent = f"{given} airflow-async-sm/{__version__}".strip()
            settings = self.config.merge(Config(user_agent_extra=agent))
            client = self._session.client(  # type: ignore[call-overload]
                service,
                endpoint_url=self.conn_config.get_service_endpoint_url(service_name=service),
                config=settings.merge(config or Config()),
                verify=self.verify,
            )
            client.meta.events.register("before-call", self._count_call)
            if service == "s3" and self.expected_bucket_owner is not None:
                client.meta.events.register("provide-client-params.s3", self._name_the_owner)
            return client

    def take_calls(self) -> Counter[str]:
        """Return how often each operation of AWS was called since this was asked last."""
        with self._making:
            taken, self._calls = self._calls, Counter()
        return taken

    def _count_call(self, model: OperationModel, **_: Any) -> None:
        # Threads may count at the same moment. A call that is missed then is no loss.
        self._calls[model.name] += 1

    def _name_the_owner(self, params: dict[str, Any], model: OperationModel, **_: Any) -> dict[str, Any]:
        """Let S3 refuse a bucket that is somebody else's by now."""
        members = model.input_shape.members if model.input_shape else {}
        return (
            {"ExpectedBucketOwner": self.expected_bucket_owner, **params}
            if ("ExpectedBucketOwner" in members)
            else params
        )

    @cached_property
    def _sagemaker(self) -> SageMakerClient:
        client: SageMakerClient = self._client_for("sagemaker")
        return client

    @cached_property
    def _runtime(self) -> SageMakerRuntimeClient:
        # The service cannot tell a repeated submission from a new one, so the client must not repeat it.
        client: SageMakerRuntimeClient = self._client_for(
            "sagemaker-runtime",
            Config(
                retries={"total_max_attempts": 1},
                max_pool_connections=SUBMITTERS,
                # Requests are checked before they come here, and a name that is put together anew for each
                # call takes a sixth of it.
                parameter_validation=False,
                user_agent=f"Boto3/{boto3.__version__}",
            ),
        )
        return client

    @cached_property
    def _s3(self) -> S3Client:
        client: S3Client = self._client_for("s3")
        return client

    @property
    def _s3_looking(self) -> S3Client:
        # Many threads begin to look at once.
        with self._making:
            return self._s3_of_lookers

    @cached_property
    def _s3_of_lookers(self) -> S3Client:
        client: S3Client = self._client_for("s3", _LOOKING)
        client.meta.events.register("before-parse.s3.ListObjectsV2", only_keys)
        return client

    @cached_property
    def _sagemaker_looking(self) -> SageMakerClient:
        client: SageMakerClient = self._client_for("sagemaker", _LOOKING)
        return client

    @cached_property
    def _autoscaling(self) -> ApplicationAutoScalingClient:
        client: ApplicationAutoScalingClient = self._client_for("application-autoscaling")
        return client

    @cached_property
    def _cloudwatch(self) -> CloudWatchClient:
        client: CloudWatchClient = self._client_for("cloudwatch")
        return client

    @cached_property
    def _cloudwatch_looking(self) -> CloudWatchClient:
        client: CloudWatchClient = self._client_for("cloudwatch", _LOOKING)
        return client
