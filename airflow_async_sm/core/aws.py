"""How AWS is reached: the four settings that the worker and the triggerer must share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.records import Record

__all__ = ["AwsParams"]


@dataclass(frozen=True, kw_only=True, slots=True)
class AwsParams(Record):
    """
    The settings of one way to reach AWS. They name a connection; they hold no secret.

    :param aws_conn_id: Airflow connection with the credentials; ``None``: boto3's own chain.
    :param region_name: AWS region; ``None``: the connection's, then boto3's.
    :param verify: Whether TLS certificates are verified, or the path of a certificate bundle; ``None``: the
        connection's setting.
    :param botocore_config: Arguments of ``botocore.config.Config``; ``None``: the connection's. They are
        stored in clear text while a task is deferred.
    :raises InvalidInput: ``botocore_config`` cannot be stored, or holds a password.
    """

    aws_conn_id: str | None = "aws_default"
    region_name: str | None = None
    verify: bool | str | None = None
    botocore_config: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.botocore_config is None:
            return
        try:
            stored = json.loads(json.dumps(dict(self.botocore_config)))
        except (TypeError, ValueError) as error:
            raise InvalidInput(
                f"botocore_config cannot be stored while the task is deferred ({error}). Give a dictionary "
                "of JSON values, as arguments of botocore.config.Config."
            ) from error
        if not isinstance(stored.get("proxies") or {}, dict):
            raise InvalidInput("botocore_config['proxies'] is no dictionary; give addresses by their scheme.")
        if any("@" in str(address) for address in (stored.get("proxies") or {}).values()):
            raise InvalidInput(
                "botocore_config['proxies'] holds a password, and would be stored in clear text. Put it into "
                "the connection's config_kwargs."
            )
        object.__setattr__(self, "botocore_config", stored)
