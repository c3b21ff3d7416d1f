"""
What a request read and wrote, for OpenLineage.

OpenLineage is not needed: without its provider there is no lineage, and nothing is missed. Its provider asks
a task for its lineage when the task ends; loading a DAG does not load it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from airflow_async_sm.core.handles import InvocationHandle
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.uris import S3Uri

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

__all__ = ["lineage"]

_log = logging.getLogger(__name__)

# OpenLineage names data by the system that holds it. Several schemes can lead to the same one.
_NAMED: Final = {"s3a": "s3", "s3n": "s3", "gcs": "gs"}
_LOCAL: Final = ("file", "local")


def lineage(handle: InvocationHandle, copied_to: str | None = None) -> OperatorLineage[Any, Any] | None:
    """
    Return what a request read and wrote; ``None`` without OpenLineage's provider, or if that fails.

    A location of which only the folder is known is left out, and so is a payload that was sent inline.

    :param handle: The request.
    :param copied_to: Where its answer was copied to: an address such as ``s3://bucket/key``, or a local path.
    """
    try:
        from airflow.providers.common.compat.openlineage.facet import Dataset
        from airflow.providers.openlineage.extractors import OperatorLineage

        read = _places(handle.input_location)
        written = _places(handle.output_location, copied_to)
        return OperatorLineage(
            inputs=[Dataset(namespace=namespace, name=name) for namespace, name in read],
            outputs=[Dataset(namespace=namespace, name=name) for namespace, name in written],
        )
    except ModuleNotFoundError as error:
        _log.debug("There is no OpenLineage: %s", error)
    except Exception as error:  # noqa: BLE001 - the work is done and paid for: its lineage must not end it
        _log.warning("%s has no lineage: %s", handle.subject, error)
    return None


def _places(*locations: str | None) -> list[tuple[str, str]]:
    """Return where the objects at some locations are, each once."""
    objects = [location for location in locations if location and not location.endswith("/")]
    return list(dict.fromkeys(_place(location) for location in objects))


def _place(location: str) -> tuple[str, str]:
    """Return the namespace and the name that OpenLineage gives an object."""
    try:
        found = S3Uri.parse(location)
    except InvalidInput:
        return _other_place(location)
    return f"s3://{found.bucket}", found.key


def _other_place(location: str) -> tuple[str, str]:
    scheme, separator, rest = location.partition("://")
    if not separator:
        return "file", location
    if scheme in _LOCAL:
        return "file", rest
    holder, _, key = rest.partition("/")
    # Airflow writes the connection before the holder. It says how the object is reached, not where it is.
    holder = holder.rpartition("@")[2]
    return f"{_NAMED.get(scheme, scheme)}://{holder}", key
