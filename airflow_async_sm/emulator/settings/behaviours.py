"""What can be set about the emulated service: waits and limits, each with where its default comes from."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_async_sm.emulator.settings.values import Count, Seconds, SomeSeconds, check_fields


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """
    The switches of one emulator. Waits are in seconds.

    :param creation_seconds: How long an endpoint is ``Creating`` at least; it also waits for its containers.
        Default 2, our choice for a laptop: users of the service report 5 to 8 minutes.
    :param deletion_seconds: How long an endpoint is ``Deleting`` at least. Default 1, our choice: the service
        answers ``DeleteEndpoint`` before the endpoint is gone and does not say how long that takes.
    :param update_seconds: How long an endpoint is ``Updating`` at least; it also waits for new containers.
        Default 1, our choice: users of the service report minutes, as for a creation.
    :param rollback_seconds: How long an endpoint is ``RollingBack`` at least, after an update that failed.
        Default 0.5, our choice: the service does not say.
    :param instance_start_seconds: How long an instance that joins a running endpoint (scaled out, woken up
        from zero, or in place of a lost one) takes before it is in service, on top of its container's start.
        Default 2, our choice: users of the service report 5 to 12 minutes for a wake-up from zero.
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
    :param container_restart_seconds: The pause before a container that died is started again. Default 1, our
        choice: the service does not say.
    :param default_concurrency: Parallel invocations per instance where the endpoint configuration has no
        ``MaxConcurrentInvocationsPerInstance``. Default 4, our guess: the service chooses a value that it
        does not publish.
    :param instance_quota: Largest number of instances of one endpoint, each of which is a process on this
        machine; more is refused with ``ResourceLimitExceeded``, as over an account's quota. Default 20, our
        choice.
    :param endpoint_quota: Largest number of endpoints in one region; more is refused with
        ``ResourceLimitExceeded``, as over the next two quotas. Default 1000, our choice: what an account of
        the service may have differs and can be raised.
    :param endpoint_config_quota: Largest number of endpoint configurations in one region. Default 10000, our
        choice.
    :param model_quota: Largest number of models in one region. Default 10000, our choice.
    :param input_limit_bytes: Size in bytes of the largest object that a request may have as its input; a
        larger one fails. Default 1073741824: the developer guide says 1 GB.
    """

    creation_seconds: Seconds = 2.0
    deletion_seconds: Seconds = 1.0
    update_seconds: Seconds = 1.0
    rollback_seconds: Seconds = 0.5
    instance_start_seconds: Seconds = 2.0
    queue_seconds: Seconds = 0.15
    container_start_timeout: SomeSeconds = 240.0
    ping_timeout: SomeSeconds = 2.0
    ping_interval: SomeSeconds = 0.1
    connect_timeout: SomeSeconds = 5.0
    container_stop_grace: Seconds = 2.0
    container_restart_seconds: Seconds = 1.0
    default_concurrency: Count = 4
    instance_quota: Count = 20
    endpoint_quota: Count = 1000
    endpoint_config_quota: Count = 10_000
    model_quota: Count = 10_000
    input_limit_bytes: Count = 1024**3

    def __post_init__(self) -> None:
        check_fields(self)
