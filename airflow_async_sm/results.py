"""What a task returns of an answer: where it is, or what it says, checked and not too large for XCom."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow_async_sm._compat import AirflowException, storage_path
from airflow_async_sm.core.answers import (
    MAX_RESULT_BYTES,
    MODES,
    Unfit,
    answer_of,
    as_json,
    copy_address,
    read_as,
)
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.texts import sentence, shortened
from airflow_async_sm.exceptions import ResultInvalid, ResultTooLarge

if TYPE_CHECKING:
    from airflow_async_sm.core.handles import InvocationHandle
    from airflow_async_sm.hooks._results import ResultCalls

__all__ = ["Collected", "ResultSpec"]

_Check = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Collected:
    """
    What came of a request that was answered.

    :param value: What the task returns, as JSON can hold it.
    :param answer: The small JSON dictionary that tells of the answer without holding it.
    """

    value: Any
    answer: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ResultSpec:
    """
    What a task returns of an answer, and where it is copied to.

    Whatever is returned, the answer is described by a small JSON dictionary: ``endpoint_name``,
    ``inference_id``, ``output_location``, ``content_type``, ``size`` (bytes), ``submitted_at``,
    ``answered_at`` (both seconds since 1970, UTC; the second by S3's clock, in whole seconds), ``seconds``
    (between the two), ``copied_to`` (only with ``copy_to``) and ``input_location`` (only if there is one).

    :param result: What is returned. ``location``: the dictionary. ``json``: the parsed answer, whatever its
        content type; JSON lines are a list, and NaN and Infinity are refused. ``text``: a text, by the
        charset of its content type or else UTF-8. ``bytes``: the content as base64 text, since XCom holds
        JSON. Or a function of the content (bytes), which may have up to 1 GB and is held in memory; it
        returns any JSON value, and may raise an Airflow exception to end the task in its own way. Default
        ``location``.
    :param result_schema: What the value must be like: a JSON Schema as a dictionary (nothing it refers to is
        fetched), or a pydantic model class, whose ``model_dump(mode="json")`` is then returned. Default: no
        check.
    :param max_result_bytes: Largest answer that is returned by value, in bytes, as it is in S3. What a
        function or a pydantic model makes of it is measured as JSON. Default 49,152.
    :param on_large_result: What happens to a larger one: ``fail``, or ``location``, which returns the
        dictionary instead and says so in the log. Default ``fail``.
    :param copy_to: Where the answer is copied before it is read: ``s3://bucket/key`` (S3 makes the copy by
        itself, with the task's own connection), an absolute local path, or a URL or path that Airflow's
        ``ObjectStoragePath`` takes. One that ends with a slash, or is a bucket, is a folder, in which the
        copy gets the object's file name; paths may lose their last slash, texts do not. Default: no copy.
    :raises InvalidInput: one of these cannot be.
    """

    result: str | Callable[[bytes], Any] = "location"
    result_schema: Any = None
    max_result_bytes: int = MAX_RESULT_BYTES
    on_large_result: str = "fail"
    copy_to: Any = None

    def __post_init__(self) -> None:
        _check_result(self.result)
        if self.result_schema is not None:
            _check_kind_of_schema(self.result_schema)
            if self.result == "location":
                raise InvalidInput(
                    "result_schema needs a value to check, and result='location' reads none; "
                    "give result='json', 'text', 'bytes' or a function."
                )
        limit = self.max_result_bytes
        if isinstance(limit, bool) or not isinstance(limit, int) or limit <= 0:
            raise InvalidInput(
                f"max_result_bytes is {limit!r}; a whole number of bytes, at least 1, is needed."
            )
        if self.on_large_result not in ("fail", "location"):
            raise InvalidInput(f"on_large_result is {self.on_large_result!r}; expected 'fail' or 'location'.")
        if self.copy_to is not None:
            copy_address(self.copy_to)

    def check(self) -> None:
        """
        Check what takes more than a look at the arguments: the schema itself, and the way to the store.

        Not done when the object is made, because it loads libraries that parsing a DAG must not.

        :raises InvalidInput: the schema is none, or Airflow has no way to the store.
        """
        self._schema_check()
        address = "/" if self.copy_to is None else copy_address(self.copy_to)
        if not address.startswith(("/", "s3://")):
            _check_store(address)

    def collect(self, hook: ResultCalls, handle: InvocationHandle, log: logging.Logger) -> Collected:
        """
        Copy the answer if asked, and return what the task is to return.

        :param hook: Reaches S3.
        :param handle: The request, with the exact location of its answer.
        :param log: Where to say what was done.
        :raises InvalidInput: as :meth:`check` does; nothing was read or copied.
        :raises ResultUnreadable: the answer is not there, or rights or a key are missing.
        :raises ResultTooLarge: it is larger than ``max_result_bytes``.
        :raises ResultInvalid: it is not what ``result`` or ``result_schema`` says.
        """
        check = self._schema_check()
        location = handle.output_location
        facts = hook.describe_result(location)
        copied_to = None
        if self.copy_to is not None:
            copied_to = hook.copy_result(location, copy_address(self.copy_to))
            log.info("%s is copied to %s.", location, copied_to)
        answer = answer_of(handle, facts, copied_to)
        if self.result == "location":
            return Collected(answer, answer)
        try:
            if not callable(self.result):
                self._fits(facts.size)
            value = self._value(hook.read_result(location), facts.content_type, check)
        except _TooLarge as large:
            self._end_if_demanded(handle, large.size)
            log.warning(
                "The answer of %s has %s bytes, max_result_bytes is %s: the task returns where it is, %s.",
                handle.subject,
                f"{large.size:,}",
                f"{self.max_result_bytes:,}",
                location,
            )
            value = answer
        except Unfit as unfit:
            raise ResultInvalid(
                f"{handle.subject} is answered, but the answer is not what the task is to return: {unfit} "
                f"{_paid(location)}",
                endpoint_name=handle.endpoint_name,
                inference_id=handle.inference_id,
                location=location,
            ) from unfit.__cause__
        return Collected(value, answer)

    def _value(self, data: bytes, content_type: str, check: _Check | None) -> Any:
        if callable(self.result):
            value, size = as_json(_called(self.result, data))
            self._fits(size)
        else:
            value, _ = as_json(read_as(self.result, data, content_type))
        if check is None:
            return value
        value, size = as_json(_called(check, value))
        if _is_model(self.result_schema):
            self._fits(size)
        return value

    def _fits(self, size: int) -> None:
        if size > self.max_result_bytes:
            raise _TooLarge(size)

    def _end_if_demanded(self, handle: InvocationHandle, size: int) -> None:
        if self.on_large_result == "location":
            return
        raise ResultTooLarge(
            f"{handle.subject} is answered, but the value has {size:,} bytes and max_result_bytes is "
            f"{self.max_result_bytes:,}. Raise it, or give on_large_result='location' or result='location'. "
            f"{_paid(handle.output_location)}",
            endpoint_name=handle.endpoint_name,
            inference_id=handle.inference_id,
            location=handle.output_location,
        ) from None

    def _schema_check(self) -> _Check | None:
        if self.result_schema is None:
            return None
        by = _by_model if _is_model(self.result_schema) else _by_json_schema
        return by(self.result_schema)


class _TooLarge(Exception):
    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


def _paid(location: str) -> str:
    return (
        f"The answer is {location}, and its inference is paid for. Clearing the task reads the same object "
        "and submits nothing, where the task remembers its request and on_clear is 'reattach'."
    )


def _is_model(schema: Any) -> bool:
    # By what it can do: without pydantic loaded nothing is a model, and loading it to ask takes long.
    return isinstance(schema, type) and callable(getattr(schema, "model_validate", None))


def _check_result(result: Any) -> None:
    if isinstance(result, str) and result in MODES:
        return
    if _is_model(result):
        raise InvalidInput(
            f"result is the model {result.__name__}; give it as result_schema, with result='json'."
        )
    if not callable(result):
        expected = ", ".join(repr(mode) for mode in MODES)
        raise InvalidInput(f"result is {result!r}; expected {expected} or a function of the content (bytes).")
    if inspect.iscoroutinefunction(result):
        raise InvalidInput("result is a coroutine function; it would be called and never awaited.")


def _check_kind_of_schema(schema: Any) -> None:
    if isinstance(schema, dict) or _is_model(schema):
        return
    shown = f"an instance of {type(schema).__name__}" if not isinstance(schema, type) else schema.__name__
    raise InvalidInput(
        f"result_schema is {shown}; a JSON Schema as a dictionary, or the class of a pydantic 2 "
        "model, is needed."
    )


def _check_store(address: str) -> None:
    try:
        _ = storage_path(address).fs
    except (ImportError, ValueError) as error:
        raise InvalidInput(
            f"copy_to is {address!r}, which this Airflow cannot write to: {sentence(str(error))} Install the "
            "provider of that store, with what it needs for files."
        ) from error
    except Exception:  # noqa: BLE001 - a store that is out of reach now may be there when the answer is
        return


def _called(function: Callable[[Any], Any], argument: Any) -> Any:
    try:
        return function(argument)
    except (AirflowException, Unfit):
        raise
    except Exception as error:  # noqa: BLE001 - somebody else's function may raise anything
        name = getattr(function, "__qualname__", None) or type(function).__name__
        # The trace shows where it happened. The error's own text may quote the answer, so it is cut.
        trace = RuntimeError(f"{name} raised {type(error).__name__}").with_traceback(error.__traceback__)
        text = sentence(shortened(str(error)))
        raise Unfit(f"{name} raised {type(error).__name__}: {text}") from trace


def _by_model(model: Any) -> _Check:
    try:
        # A model may name types that are nowhere; better known now than when the answer is there.
        model.model_rebuild()
    except Exception as error:
        raise InvalidInput(
            f"result_schema {model.__name__} is not complete: {sentence(shortened(str(error)))}"
        ) from error
    pydantic = import_module("pydantic")

    def check(value: Any) -> Any:
        try:
            return model.model_validate(value).model_dump(mode="json")
        except pydantic.ValidationError as error:
            found = error.errors(include_input=False, include_context=False, include_url=False)
            path = "".join(f"[{part!r}]" for part in found[0]["loc"])
            raise Unfit(_violation(model.__name__, f"${path}", str(found[0]["msg"]), len(found))) from None

    check.__qualname__ = str(model.__name__)
    return check


def _by_json_schema(schema: dict[str, Any]) -> _Check:
    jsonschema, referencing = import_module("jsonschema"), import_module("referencing.exceptions")
    # Only the schemas of JSON Schema itself: what else is referred to would be fetched from anywhere.
    registry = import_module("jsonschema_specifications").REGISTRY
    latest = jsonschema.Draft202012Validator
    try:
        as_json(schema)
        known = isinstance(schema.get("$schema", ""), str)
        kind = jsonschema.validators.validator_for(schema, default=latest) if known else latest
        kind.check_schema(schema)
        _check_references(schema, kind, registry)
    except Unfit as error:
        raise InvalidInput(f"result_schema is no JSON Schema: {error}") from None
    except jsonschema.SchemaError as error:
        raise InvalidInput(
            f"result_schema is no JSON Schema: at {error.json_path}: {sentence(shortened(error.message))}"
        ) from None
    except referencing.Unresolvable as error:
        raise InvalidInput(
            f"result_schema refers to {error.ref!r}, which is not in it; nothing is fetched from elsewhere."
        ) from None
    validator = kind(schema, registry=registry)

    def check(value: Any) -> Any:
        try:
            errors = list(validator.iter_errors(value))
        except (referencing.Unresolvable, RecursionError) as error:
            raise Unfit(f"result_schema cannot be followed to its end ({type(error).__name__}).") from None
        if errors:
            worst = jsonschema.exceptions.best_match(errors)
            raise Unfit(_violation("the JSON Schema", worst.json_path, _rule(worst), len(errors)))
        return value

    return check


def _check_references(schema: dict[str, Any], kind: Any, registry: Any) -> None:
    """Look every reference up from where it stands: a validator follows one only when a value leads there."""
    dialect = import_module("referencing.jsonschema").specification_with(kind.META_SCHEMA["$schema"])
    root = dialect.create_resource(schema)
    waiting = [(root, registry.resolver_with_root(root))]
    while waiting:
        part, resolver = waiting.pop()
        if isinstance(part.contents, dict) and isinstance(reference := part.contents.get("$ref"), str):
            resolver.lookup(reference)
        waiting += [(below, resolver.in_subresource(below)) for below in part.subresources()]


def _rule(error: Any) -> str:
    """Return what the schema wants there: its own words, never the value's."""
    if error.validator is None:
        return "nothing is allowed there"
    wanted = error.validator_value
    if error.validator == "required" and isinstance(wanted, list):
        wanted = [name for name in wanted if name not in error.instance]
    return f"{error.validator} {wanted!r}"


def _violation(by: str, path: str, rule: str, count: int) -> str:
    # Both may hold what the answer says: keys of an object, and the text of a model's own check.
    further = "" if count == 1 else f" ({count - 1:,} more)"
    return f"it breaks {by} at {shortened(f'{path}: {rule}')}{further}."
