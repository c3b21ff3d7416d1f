"""The endpoints of the emulated account: found by name, whatever their case, in their region."""

from __future__ import annotations

import threading

from airflow_async_sm.emulator.account.endpoints import Endpoint
from airflow_async_sm.emulator.errors import AwsError, control_refusal

_KINDS = {"endpoint": "endpoint", "endpoint-config": "endpoint configuration", "model": "model"}


class Registry:
    """
    All endpoints of all regions.

    :param account_id: The emulated account.
    """

    def __init__(self, account_id: str) -> None:
        self.account_id = account_id
        # Held by whoever has to be sure that nothing comes or goes meanwhile.
        self.lock = threading.RLock()
        self._endpoints: dict[tuple[str, str], Endpoint] = {}
        # Set while the emulator stops.
        self.closed = False

    def add(self, endpoint: Endpoint) -> None:
        """Enter an endpoint."""
        with self.lock:
            self._endpoints[endpoint.region, endpoint.name.lower()] = endpoint

    def remove(self, endpoint: Endpoint) -> None:
        """Forget an endpoint, unless another one has its name by now."""
        with self.lock:
            key = (endpoint.region, endpoint.name.lower())
            if self._endpoints.get(key) is endpoint:
                del self._endpoints[key]

    def clear(self) -> None:
        """Forget every endpoint."""
        with self.lock:
            self._endpoints.clear()

    def refuse_when_closed(self) -> None:
        """Raise the answer to whatever comes while the emulator stops."""
        if self.closed:
            raise AwsError("ServiceUnavailable", "The emulator is stopping.", status=503)

    def find(self, region: str, name: str) -> Endpoint | None:
        """Return the endpoint of that name."""
        with self.lock:
            return self._endpoints.get((region, name.lower()))

    def all(self, region: str | None = None) -> list[Endpoint]:
        """Return every endpoint, or those of one region."""
        with self.lock:
            return [found for found in self._endpoints.values() if region in (None, found.region)]

    def arn(self, kind: str, name: str, region: str) -> str:
        """Return the ARN of an endpoint, a configuration or a model, in lower case as the service does."""
        return f"arn:aws:sagemaker:{region}:{self.account_id}:{kind}/{name.lower()}"

    def exists(self, kind: str, name: str, region: str) -> AwsError:
        """Return the refusal of something that is there already."""
        arn = self.arn(kind, name, region)
        return control_refusal(f'Cannot create already existing {_KINDS[kind]} "{arn}".')

    def missing(self, kind: str, name: str, region: str) -> AwsError:
        """Return the refusal of something that is not there."""
        return control_refusal(f'Could not find {_KINDS[kind]} "{self.arn(kind, name, region)}".')
