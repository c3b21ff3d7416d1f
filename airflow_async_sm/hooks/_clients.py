"""One session a connection, and one client a service, all with the same settings."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
from botocore.config import Config

from airflow_async_sm import __version__
from airflow_async_sm.hooks._translate import translated

if TYPE_CHECKING:
    from collections.abc import Mapping

    import boto3
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sagemaker import SageMakerClient
    from mypy_boto3_sagemaker_runtime import SageMakerRuntimeClient

    from airflow_async_sm.core.aws import AwsParams


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

    @classmethod
    def from_params(cls, params: AwsParams) -> Self:
        """Return the hook that reaches AWS as ``params`` say."""
        return cls(
            params.aws_conn_id,
            region_name=params.region_name,
            verify=params.verify,
            botocore_config=params.botocore_config,
        )

    @cached_property
    def _session(self) -> boto3.session.Session:
        session: boto3.session.Session = self.get_session(region_name=self.region_name)
        return session

    def _client_for(self, service: str, config: Config | None = None) -> Any:
        settings = self.config.merge(Config(user_agent_extra=f"airflow-async-sm/{__version__}"))
        with translated(f"make a client for {service}"):
            return self._session.client(  # type: ignore[call-overload]
                service,
                endpoint_url=self.conn_config.get_service_endpoint_url(service_name=service),
                config=settings.merge(config) if config else settings,
                verify=self.verify,
            )

    @cached_property
    def _sagemaker(self) -> SageMakerClient:
        client: SageMakerClient = self._client_for("sagemaker")
        return client

    @cached_property
    def _runtime(self) -> SageMakerRuntimeClient:
        # The service cannot tell a repeated submission from a new one, so the client must not repeat it.
        client: SageMakerRuntimeClient = self._client_for(
            "sagemaker-runtime", Config(retries={"total_max_attempts": 1})
        )
        return client

    @cached_property
    def _s3(self) -> S3Client:
        client: S3Client = self._client_for("s3")
        return client
