"""What can go wrong, as data: one small class for each kind of fault, and how it is written in a file."""

from __future__ import annotations

import random
import re
from dataclasses import MISSING, dataclass, fields
from typing import Annotated, Any, ClassVar, Final, Literal

from airflow_async_sm.emulator.settings.values import (
    Count,
    Name,
    Range,
    Seconds,
    SettingError,
    Share,
    SomeSeconds,
    build,
    check_fields,
    mapping,
    nearest,
)

# Fields that say what a fault is about. One that is None says nothing.
SELECTORS: Final = ("endpoint", "operation", "service", "bucket", "access_key_id")


@dataclass(frozen=True, kw_only=True)
class Fault:
    """
    Something that goes wrong. The kinds are the subclasses; a kind's name is its class's, in snake case.

    :param rate: The share of the cases that the fault hits, from 0 to 1. Default 1: all of them.
    :param times: How many cases it hits before it is used up, at least 1. Default: no end.
    :param endpoint: Name of the endpoint that it is about, in any case. Default: every endpoint. Kinds that
        are about S3 have no endpoint.
    :raises SettingError: a value that a field cannot have.
    """

    kind: ClassVar[str]
    has_endpoint: ClassVar[bool] = True

    rate: Share = 1.0
    times: Count | None = None
    endpoint: Name | None = None

    def __init_subclass__(cls) -> None:
        cls.kind = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()

    def __post_init__(self) -> None:
        if type(self) is Fault:
            raise TypeError("A fault is of a kind: make one of a subclass.")
        check_fields(self)
        if self.endpoint is not None and not self.has_endpoint:
            raise SettingError(("endpoint",), f"is {self.endpoint!r}; {self.kind} is about no endpoint.")
        self.check()

    def check(self) -> None:
        """Raise :class:`SettingError` if fields that fit on their own do not fit together."""

    def selects(self, about: dict[str, str | None]) -> bool:
        """
        Return whether the fault is about a case.

        :param about: What the case is about, by selector. Where the fault names something and the case does
            not, it is about something else.
        """
        for name in SELECTORS:
            wanted = getattr(self, name, None)
            if wanted is not None and _same_case(name, wanted) != _same_case(name, about.get(name)):
                return False
        return True

    def as_data(self) -> dict[str, Any]:
        """Return the fault as plain data: its kind, and every field that is not at its default."""
        values = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.default is MISSING or getattr(self, field.name) != field.default
        }
        return {"kind": self.kind, **values}


def _same_case(selector: str, name: str | None) -> str | None:
    # The service does not tell endpoints apart by case.
    return name.lower() if name and selector == "endpoint" else name


@dataclass(frozen=True)
class ModelLatency(Fault):
    """
    A model takes longer: its answer is held back. Selector: ``endpoint``.

    :param seconds: How long. It is the time itself (``fixed``), the least (``uniform``) or the mean
        (``exponential``).
    :param up_to: The longest. Needed for ``uniform``, possible for ``exponential``; not for ``fixed``.
    :param distribution: How the time varies between requests: ``fixed``, ``uniform`` or ``exponential``.
        Default ``fixed``.
    """

    seconds: Seconds
    up_to: SomeSeconds | None = None
    distribution: Literal["fixed", "uniform", "exponential"] = "fixed"

    def check(self) -> None:
        if self.distribution == "fixed" and self.up_to is not None:
            raise SettingError(("up_to",), f"is {self.up_to!r}; a fixed latency has no other end.")
        if self.distribution == "uniform" and self.up_to is None:
            raise SettingError(("up_to",), "is missing; a uniform latency needs it.")
        if self.distribution == "exponential" and self.seconds == 0:
            raise SettingError(("seconds",), "is 0.0; the mean of an exponential latency is greater than 0.")
        if self.up_to is not None and self.up_to < self.seconds:
            raise SettingError(
                ("up_to",), f"is {self.up_to!r}; it must be at least seconds, {self.seconds!r}."
            )

    def seconds_for(self, source: random.Random) -> float:
        """
        Return how long one request takes.

        :param source: Where the chance comes from.
        """
        if self.distribution == "uniform" and self.up_to is not None:
            return source.uniform(self.seconds, self.up_to)
        if self.distribution == "exponential":
            drawn = source.expovariate(1 / self.seconds)
            return drawn if self.up_to is None else min(drawn, self.up_to)
        return self.seconds


@dataclass(frozen=True)
class ModelError(Fault):
    """
    The container answers an error instead of what its model says. Selector: ``endpoint``.

    :param status: HTTP status of the answer, from 400 to 599. Default 500.
    :param body: The answer's text. Default ``the model failed``.
    :param content_type: The answer's content type. Default ``text/plain``.
    """

    status: Annotated[int, Range(400, 599)] = 500
    body: str = "the model failed"
    content_type: Name = "text/plain"


@dataclass(frozen=True)
class ModelCrash(Fault):
    """The container dies when it has the request. Selector: ``endpoint``."""


@dataclass(frozen=True)
class InstanceLost(Fault):
    """The instance vanishes while it works on the request and on others. Selector: ``endpoint``."""


@dataclass(frozen=True)
class InsufficientCapacity(Fault):
    """An instance cannot be had: the endpoint does not grow, or does not come up. Selector: ``endpoint``."""


@dataclass(frozen=True)
class ConfigLate(Fault):
    """
    ``CreateEndpoint`` does not see a configuration that was created a moment ago. Selector: ``endpoint``.

    :param seconds: How old a configuration is before it is seen.
    """

    seconds: Seconds


@dataclass(frozen=True)
class EndpointImpaired(Fault):
    """
    An endpoint that is in service shows another status while the fault is on. Selector: ``endpoint``.

    :param status: ``SystemUpdating`` or ``OutOfService``. Default ``SystemUpdating``.
    """

    status: Literal["SystemUpdating", "OutOfService"] = "SystemUpdating"


@dataclass(frozen=True)
class RollbackFailed(Fault):
    """An update's way back fails, and the endpoint is ``UpdateRollbackFailed``. Selector: ``endpoint``."""


@dataclass(frozen=True)
class Throttled(Fault):
    """
    A call of SageMaker is refused because there are too many. Selectors: ``endpoint``, ``operation``.

    :param operation: The call, as in the API: ``InvokeEndpointAsync``. Default: every call.
    """

    operation: Name | None = None


@dataclass(frozen=True)
class ServiceFailed(Fault):
    """
    A call is answered with an error of the service. Selectors: ``endpoint``, ``operation``, ``service``.

    :param status: 500 or 503. Default 500.
    :param operation: The call, as in the API. Default: every call.
    :param service: The service, as boto3 names its client: ``sagemaker-runtime``, ``s3``. Default: every one.
    """

    status: Literal[500, 503] = 500
    operation: Name | None = None
    service: Name | None = None


@dataclass(frozen=True)
class ReplyLost(Fault):
    """
    A call does its work, and the caller does not hear of it. Selectors: ``endpoint``, ``operation``.

    :param operation: The call, as in the API; ``None`` is every call. Default ``InvokeEndpointAsync``, which
        then has queued a request that the caller does not know of.
    :param seconds: How late the reply is. Default ``None``: it never comes, the connection is closed.
    """

    operation: Name | None = "InvokeEndpointAsync"
    seconds: Seconds | None = None


@dataclass(frozen=True)
class SlowAnswer(Fault):
    """
    A call waits before its work is done. Selectors: ``endpoint``, ``operation``, ``service``.

    :param seconds: How long it waits.
    :param operation: The call, as in the API. Default: every call.
    :param service: The service, as boto3 names its client. Default: every one.
    """

    seconds: Seconds
    operation: Name | None = None
    service: Name | None = None


@dataclass(frozen=True)
class S3SlowDown(Fault):
    """
    S3 asks for fewer requests: 503 ``SlowDown``. Selectors: ``operation``, ``bucket``.

    :param operation: The call, as in the API: ``HeadObject``. Default: every call.
    :param bucket: The bucket. Default: every bucket.
    """

    has_endpoint: ClassVar[bool] = False

    operation: Name | None = None
    bucket: Name | None = None


@dataclass(frozen=True)
class ListDenied(Fault):
    """
    The caller lacks ``s3:ListBucket``: a listing is 403, and so is a missing key instead of 404.
    Selector: ``bucket``.

    :param bucket: The bucket. Default: every bucket.
    """

    has_endpoint: ClassVar[bool] = False

    bucket: Name | None = None


@dataclass(frozen=True)
class S3Denied(Fault):
    """
    S3 refuses a call: 403 ``AccessDenied``. Selectors: ``operation``, ``bucket``.

    :param operation: The call, as in the API: ``GetObject``. Default: every call.
    :param bucket: The bucket. Default: every bucket.
    :param kms: Whether the text says that a KMS key is what is denied. Default false.
    """

    has_endpoint: ClassVar[bool] = False

    operation: Name | None = None
    bucket: Name | None = None
    kms: bool = False


@dataclass(frozen=True)
class RoleDenied(Fault):
    """
    The endpoint's execution role may not read an input, or not write an output.
    Selectors: ``endpoint``, ``operation``, ``bucket``.

    :param operation: ``GetObject`` or ``PutObject``. Default: both.
    :param bucket: The bucket. Default: every bucket.
    """

    operation: Literal["GetObject", "PutObject"] | None = None
    bucket: Name | None = None


@dataclass(frozen=True)
class ExpiredCredentials(Fault):
    """
    The caller's credentials have expired. Selectors: ``endpoint``, ``access_key_id``.

    :param access_key_id: The access key whose time is over. Default: every key.
    """

    access_key_id: Name | None = None


@dataclass(frozen=True)
class NotificationLost(Fault):
    """A notification about a request is never published. Selector: ``endpoint``."""


@dataclass(frozen=True)
class NotificationLate(Fault):
    """
    A notification about a request is published late. Selector: ``endpoint``.

    :param seconds: How late.
    """

    seconds: Seconds


@dataclass(frozen=True)
class NotificationDoubled(Fault):
    """A notification about a request is published twice. Selector: ``endpoint``."""


@dataclass(frozen=True)
class NotificationEarly(Fault):
    """
    A notification about a request is published before its object can be read. Selector: ``endpoint``.

    :param seconds: How early.
    """

    seconds: Seconds


def fault_kinds() -> dict[str, type[Fault]]:
    """Return every kind of fault by its name, in alphabetical order."""
    return dict(sorted((cls.kind, cls) for cls in Fault.__subclasses__()))


def fault_from_data(data: object) -> Fault:
    """
    Read a fault as :meth:`Fault.as_data` writes it.

    :param data: A mapping with the ``kind`` and the fields that are not at their defaults.
    :raises SettingError: not a mapping, an unknown kind or field, a field that is missing, or a value that a
        field cannot have.
    """
    given = mapping(data)
    if "kind" not in given:
        raise SettingError(("kind",), "is missing; every fault needs it.")
    kind, kinds = given.pop("kind"), fault_kinds()
    if not isinstance(kind, str) or kind not in kinds:
        raise SettingError(("kind",), f"is {kind!r}, which is no kind of fault.{nearest(str(kind), kinds)}")
    return build(kinds[kind], given, kind=kind)
