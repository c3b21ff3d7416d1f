"""The tags of endpoints. Those of models and configurations are moto's."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final

from airflow_async_sm.emulator.account.registry import Registry
from airflow_async_sm.emulator.errors import constraint, control_refusal

_MOST: Final = 50


class Tags:
    """
    The tags of endpoints.

    :param registry: The endpoints.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._lock = threading.Lock()
        self._tags: dict[str, dict[str, str]] = {}

    def begin(self, arn: str, tags: Sequence[Mapping[str, str]]) -> None:
        """Give a new endpoint its first tags."""
        self._set(arn, {}, tags)

    def forget(self, arn: str) -> None:
        """Drop the tags of an endpoint that is gone."""
        with self._lock:
            self._tags.pop(arn, None)

    def add(self, region: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer ``AddTags``."""
        arn = self._find(region, request)
        return {"Tags": self._set(arn, self._tags.get(arn, {}), request.get("Tags") or [])}

    def list(self, region: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer ``ListTags``."""
        arn = self._find(region, request)
        with self._lock:
            return {"Tags": _as_list(self._tags.get(arn, {}))}

    def delete(self, region: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer ``DeleteTags``."""
        arn = self._find(region, request)
        with self._lock:
            for key in request.get("TagKeys") or []:
                self._tags.get(arn, {}).pop(key, None)
        return {}

    def save(self) -> dict[str, dict[str, str]]:
        """Return every endpoint's tags."""
        with self._lock:
            return {arn: dict(tags) for arn, tags in self._tags.items()}

    def restore(self, saved: Mapping[str, Mapping[str, str]]) -> None:
        """Take over what :meth:`save` returned."""
        with self._lock:
            self._tags = {arn: dict(tags) for arn, tags in saved.items()}

    def _set(
        self, arn: str, before: Mapping[str, str], tags: Sequence[Mapping[str, str]]
    ) -> Sequence[dict[str, str]]:
        now = {**before, **{tag["Key"]: tag["Value"] for tag in tags}}
        check_tags(list(now))
        with self._lock:
            self._tags[arn] = now
        return _as_list(now)

    def _find(self, region: str, request: Mapping[str, Any]) -> str:
        arn = str(request.get("ResourceArn", ""))
        endpoint = self._registry.find(region, arn.rpartition("/")[2])
        if endpoint is None or endpoint.arn != arn.lower():
            raise control_refusal(f'Could not find endpoint "{arn}".')
        return endpoint.arn


def check_tags(tags: Sequence[object]) -> None:
    """
    Refuse more tags than a resource can have.

    :raises AwsError: there are more than 50.
    """
    if len(tags) > _MOST:
        raise control_refusal(constraint(f"{len(tags)} tags; a resource can have {_MOST}."))


def _as_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]
