"""What can be set about the emulated service: waits and limits, each with where its default comes from."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """
    The switches of one emulator. Waits are in seconds.

    :param creation_seconds: How long an endpoint is ``Creating`` at least; it also waits for its containers.
        Default 2, our choice for a laptop: users of the service report 5 to 8 minutes.
    :param deletion_seconds: How long an endpoint is ``Deleting`` at least. Default 1, our choice: the service
        answers ``DeleteEndpoint`` before the endpoint is gone and does not say how long that takes.
    :param queue_seconds: How long a request is queued at least, also when a worker is free. Default 0.15, the
        time between receipt and answer in the service's own sample of a notification (developer guide).
    :param container_start_timeout: How long a container has for its first healthy ping, where the endpoint
        configuration has no ``ContainerStartupHealthCheckTimeoutInSeconds``. Default 240, the service's
        "about 4 minutes" (developer guide).
    :param ping_timeout: How long one ``GET /ping`` may take. Default 2, the service's limit (developer
        guide).
    :param ping_interval: The pause between two pings of a starting container. Default 0.1, our guess.
    :param connect_timeout: How long a container may take to accept a connection for an invocation. Default 5,
        our choice: the developer guide asks for 0.25, which a busy laptop would miss.
    :param container_stop_grace: How long a container has between SIGTERM and SIGKILL. Default 2, our choice:
        Docker waits longer, but so would everyone who runs tests.
    :param default_concurrency: Parallel invocations per instance where the endpoint configuration has no
        ``MaxConcurrentInvocationsPerInstance``. Default 4, our guess: the service chooses a value that it
        does not publish.
    :param instance_quota: Largest number of instances of one endpoint, each of which is a process on this
        machine; more is refused with ``ResourceLimitExceeded``, as over an account's quota. Default 20, our
        choice.
    """

    creation_seconds: float = 2.0
    deletion_seconds: float = 1.0
    queue_seconds: float = 0.15
    container_start_timeout: float = 240.0
    ping_timeout: float = 2.0
    ping_interval: float = 0.1
    connect_timeout: float = 5.0
    container_stop_grace: float = 2.0
    default_concurrency: int = 4
    instance_quota: int = 20

    def __post_init__(self) -> None:
        may_be_zero = {"creation_seconds", "deletion_seconds", "queue_seconds", "container_stop_grace"}
        for field in fields(self):
            value = getattr(self, field.name)
            if not math.isfinite(value) or value < 0 or (value == 0 and field.name not in may_be_zero):
                raise ValueError(f"{field.name} is {value!r}; it must be a positive, finite number.")
        for name in ("default_concurrency", "instance_quota"):
            if not isinstance(getattr(self, name), int):
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be a whole number.")
