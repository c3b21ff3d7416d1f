"""
The ARNs of models and endpoint configurations. Importing this module imports moto.

The service writes them in lower case, whatever the case of the name. moto writes the name as it is, and finds
what an ARN means by the name as it is. Endpoints are not moto's.
"""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple

from moto.sagemaker.models import sagemaker_backends

from airflow_async_sm.emulator.web.http_server import ACCOUNT_ID
from airflow_async_sm.emulator.web.replies import Reply

# The calls of moto's with such an ARN in the answer.
SHOWING: Final = frozenset({"CreateModel", "DescribeModel", "CreateEndpointConfig", "DescribeEndpointConfig"})
_MEMBERS: Final = ("ModelArn", "EndpointConfigArn")
_KINDS: Final = ("model", "endpoint-config")


class Named(NamedTuple):
    """
    A model or a configuration that an ARN stands for.

    :param kind: ``model`` or ``endpoint-config``.
    :param name: Its name as its creator spelled it; as in the ARN if there is none.
    :param arn: Its ARN as moto knows it.
    """

    kind: str
    name: str
    arn: str


def in_lower_case(answer: Reply) -> Reply:
    """Return a JSON answer of moto's with the ARNs as the service writes them."""
    value = json.loads(b"".join(answer.body))
    for member in _MEMBERS:
        if member in value:
            value[member] = value[member].lower()
    content = json.dumps(value).encode()
    kept = [(name, text) for name, text in answer.headers if name.lower() != "content-length"]
    return Reply(answer.status, [*kept, ("Content-Length", str(len(content)))], [content])


def named(arn: str, region: str) -> Named | None:
    """
    Return the model or the configuration of an ARN, or ``None`` if the ARN is another thing's.

    :param arn: The ARN, in any case.
    :param region: Region of the call.
    """
    start, _, name = arn.rpartition("/")
    kind = start.rpartition(":")[2]
    if kind not in _KINDS:
        return None
    backend: Any = sagemaker_backends[ACCOUNT_ID][region]
    known = list(backend._models if kind == "model" else backend.endpoint_configs)
    # Names that differ in case only are two names and have one ARN.
    if name not in known:
        name = next((one for one in known if one.lower() == name.lower()), name)
    return Named(kind, name, f"{start}/{name}")
