"""What a task is about to ask for: the request as it will be sent, and what has to be put into S3 first."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_async_sm.core.attempts import fingerprint
from airflow_async_sm.core.limits import KMS_KEY_ID, InvalidInput
from airflow_async_sm.core.requests import InvocationRequest
from airflow_async_sm.core.transports import plan_transport
from airflow_async_sm.core.uris import S3Uri

if TYPE_CHECKING:
    from airflow_async_sm.core.identities import TaskIdentity
    from airflow_async_sm.sources import Source

__all__ = ["Draft", "draft"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """
    What a task is about to ask for.

    :param request: The checked request.
    :param fingerprint: What its input is, in short.
    :param upload: The payload, where it has to be put to ``request.input_location`` first.
    :param sse_kms_key_id: The key to encrypt it with there.
    :param own_folder: Whether ``s3_output_path_extension`` is this request's alone.
    :param transport: Why the payload goes the way it goes, for the log. May be empty.
    """

    request: InvocationRequest
    fingerprint: str
    upload: Source | None = None
    sse_kms_key_id: str | None = None
    own_folder: bool = False
    transport: str = ""


def draft(
    given: Mapping[str, Any],
    *,
    payload: Source | str,
    identity: TaskIdentity,
    members: Collection[str],
    payload_transport: str = "auto",
    work_prefix: str | None = None,
    sse_kms_key_id: str | None = None,
    reached: Mapping[str, Any] | None = None,
) -> Draft:
    """
    Return a request as it will be sent, with the payload in it or to be put below the work prefix.

    :param given: Members of the request, as ``InvocationRequest`` names them, without the payload. What is
        not given is ``None``.
    :param payload: The payload, or the S3 URI where it is.
    :param identity: The task that asks. It gives the names that nobody else has given.
    :param members: Members of a request that the loaded boto3 can send.
    :param payload_transport: ``auto``, ``inline`` or ``s3``.
    :param work_prefix: S3 URI of the folder for uploads.
    :param sse_kms_key_id: The key to encrypt an upload with.
    :param reached: Where the endpoint is looked for. The same name elsewhere is another endpoint.
    :raises InvalidInput: a member is outside its limits, or the payload cannot be sent.
    """
    fixed = dict(given)
    folder = fixed.setdefault("s3_output_path_extension", None)
    if sse_kms_key_id is not None:
        KMS_KEY_ID.check("sse_kms_key_id", sse_kms_key_id)
    if fixed.get("filename") is not None and folder is not None:
        raise InvalidInput(
            "s3_output_path_extension and filename together give every request of the task the same output "
            "object, so an earlier answer would be taken for a new one. Leave one of them out; copy_to "
            "puts a copy under a name of your own."
        )
    inference_id = fixed.pop("inference_id", None) or str(uuid.uuid4())
    fixed["custom_attributes"] = fixed.get("custom_attributes") or identity.custom_attributes
    content = payload
    if not isinstance(payload, str):
        fixed["content_type"] = payload.content_type
        content = payload.digest()
    mark = fingerprint(**fixed, input=content, reached=dict(reached or {}))

    body, location, upload, transport = None, None, None, ""
    if isinstance(payload, str):
        location = payload
    else:
        plan = plan_transport(
            payload.size,
            wanted=payload_transport,
            can_inline="Body" in members,
            work_prefix=work_prefix,
        )
        if plan.inline:
            body = payload.read()
            transport = f"The payload is sent in the request: {plan.reason}."
        else:
            # The same payload has the same place: a retry puts nothing beside it.
            upload = payload
            place = S3Uri.parse(str(work_prefix), argument="work_prefix")
            location = str(place.join("inputs", identity.folder, mark))
            transport = f"The payload is put to {location}: {plan.reason}."
    own_folder = folder is None and "S3OutputPathExtension" in members
    if own_folder:
        fixed["s3_output_path_extension"] = f"{identity.folder}/{uuid.uuid4().hex[:12]}"
    return Draft(
        request=InvocationRequest(
            **fixed,
            body=body,
            input_location=location,
            inference_id=inference_id,
        ),
        fingerprint=mark,
        upload=upload,
        sse_kms_key_id=sse_kms_key_id,
        own_folder=own_folder,
        transport=transport,
    )
