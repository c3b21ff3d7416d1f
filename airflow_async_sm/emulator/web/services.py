"""Who answers a call: the emulator's own parts, moto, or both, one after the other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from airflow_async_sm.emulator.errors import AwsError, control_refusal, not_imitated
from airflow_async_sm.emulator.web.arns import SHOWING, in_lower_case, named
from airflow_async_sm.emulator.web.behind import ControlPlane, Members, RuntimeCalls, Scaling
from airflow_async_sm.emulator.web.bodies import members, read_body, replace_members
from airflow_async_sm.emulator.web.calls import Call, Protocol
from airflow_async_sm.emulator.web.replies import (
    AMZ_JSON,
    Reply,
    access_denied,
    internal_failure,
    json_reply,
    new_request_id,
    reply,
)

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

_MEMBER_HEADERS: Final = "HTTP_X_AMZN_SAGEMAKER_"

Answering = Callable[[str, Members], dict[str, Any] | None]
Checking = Callable[[str, Members], None]


class Services:
    """
    Carries calls out.

    :param control: SageMaker's control plane, as far as it is not moto's.
    :param runtime: SageMaker's runtime.
    :param scaling: Application Auto Scaling, as far as it is not moto's.
    :param moto: Answers everything else.
    """

    def __init__(
        self,
        *,
        control: ControlPlane,
        runtime: RuntimeCalls,
        scaling: Scaling,
        moto: WSGIApplication,
    ) -> None:
        self._runtime = runtime
        self._scaling = scaling
        self._moto = moto
        # "Is there one already?" and "make it" are two steps; two callers must not both hear no.
        self._creating = threading.Lock()
        self._answers: Mapping[str, Answering] = {
            "ListModels": control.list_models,
            "ListEndpointConfigs": control.list_endpoint_configs,
            "CreateEndpoint": control.create_endpoint,
            "DescribeEndpoint": control.describe_endpoint,
            "ListEndpoints": control.list_endpoints,
            "DeleteEndpoint": control.delete_endpoint,
            "UpdateEndpoint": control.update_endpoint,
            "UpdateEndpointWeightsAndCapacities": control.update_weights_and_capacities,
        }
        self._tag_calls: Mapping[str, Answering] = {
            "AddTags": control.tags.add,
            "ListTags": control.tags.list,
            "DeleteTags": control.tags.delete,
        }
        # What comes before and after moto.
        self._creations: Mapping[str, tuple[Checking, Checking]] = {
            "CreateModel": (control.refuse_bad_model, control.model_created),
            "CreateEndpointConfig": (control.refuse_bad_endpoint_config, control.endpoint_config_created),
        }
        # moto's texts have other quotation marks than the service's.
        self._presence_checks: Mapping[str, Checking] = {
            "DescribeModel": control.refuse_missing_model,
            "DeleteModel": control.refuse_missing_model,
            "DescribeEndpointConfig": control.refuse_missing_endpoint_config,
            "DeleteEndpointConfig": control.refuse_missing_endpoint_config,
        }
        self._presence_of: Mapping[str, tuple[Checking, str]] = {
            "model": (control.refuse_missing_model, "ModelName"),
            "endpoint-config": (control.refuse_missing_endpoint_config, "EndpointConfigName"),
        }

    def answer(self, environ: WSGIEnvironment, call: Call) -> Reply:
        """
        Carry a call out and return its answer.

        :param environ: The request.
        :param call: Which call it is.
        :raises AwsError: it is refused.
        """
        if call.service == "sagemaker-runtime":
            return self._invoke(environ, call)
        if call.service == "sagemaker" and call.protocol is Protocol.JSON:
            return self._control_plane(environ, call)
        if call.service == "application-autoscaling" and not call.internal:
            return self._scale(environ, call)
        return self._ask_moto(environ, call)

    def _invoke(self, environ: WSGIEnvironment, call: Call) -> Reply:
        region, name = _region(call), call.endpoint or ""
        body = read_body(environ)
        if call.operation != "InvokeEndpointAsync":
            raise self._runtime.invoke(region, name, str(call.operation))
        headers = {
            key[5:].lower().replace("_", "-"): value
            for key, value in environ.items()
            if key.startswith(_MEMBER_HEADERS)
        }
        inference_id, output, failure = self._runtime.invoke_async(region, name, headers, body)
        locations = [("X-Amzn-SageMaker-OutputLocation", output)]
        if failure is not None:
            locations.append(("X-Amzn-SageMaker-FailureLocation", failure))
        return json_reply({"InferenceId": inference_id}, status=202, headers=locations)

    def _control_plane(self, environ: WSGIEnvironment, call: Call) -> Reply:
        region, operation = _region(call), call.operation or ""
        request = members(environ)
        if any(name.endswith("Name") and not isinstance(value, str) for name, value in request.items()):
            raise control_refusal("1 validation error detected: a name must be text.")
        if operation in self._answers:
            return _written(self._answers[operation](region, request))
        if operation in self._tag_calls:
            return self._tag(environ, call, request)
        if operation in self._creations:
            return self._create(environ, call, request)
        # The checks ask moto through this door; asking them about their own question would never end.
        if operation in self._presence_checks and not call.internal:
            self._presence_checks[operation](region, request)
        return self._show(environ, call)

    def _create(self, environ: WSGIEnvironment, call: Call, request: Members) -> Reply:
        check, complete = self._creations[call.operation or ""]
        with self._creating:
            check(_region(call), request)
            answer = self._show(environ, call)
            if answer.status < 300:
                complete(_region(call), request)
            return answer

    def _show(self, environ: WSGIEnvironment, call: Call) -> Reply:
        answer = self._ask_moto(environ, call)
        return in_lower_case(answer) if call.operation in SHOWING and answer.status < 300 else answer

    def _tag(self, environ: WSGIEnvironment, call: Call, request: dict[str, Any]) -> Reply:
        region, operation = _region(call), call.operation or ""
        arn = str(request.get("ResourceArn", ""))
        if ":endpoint/" in arn:
            return _written(self._tag_calls[operation](region, request))
        if (found := named(arn, region)) is not None:
            check, member = self._presence_of[found.kind]
            check(region, {member: found.name})
            replace_members(environ, {**request, "ResourceArn": found.arn})
        return self._ask_moto(environ, call)

    def _scale(self, environ: WSGIEnvironment, call: Call) -> Reply:
        region, operation = _region(call), call.operation or ""
        request = members(environ)
        own = self._scaling.answer(region, operation, request)
        if own is not None:
            return _written(own)
        self._scaling.check(region, operation, request)
        answer = self._ask_moto(environ, call)
        if answer.status < 300:
            own = self._scaling.accepted(region, operation, request)
        return answer if own is None else _written(own)

    def _ask_moto(self, environ: WSGIEnvironment, call: Call) -> Reply:
        begun: list[tuple[str, list[tuple[str, str]]]] = []

        def start_response(status: str, headers: list[tuple[str, str]], _exc_info: Any = None) -> Any:
            begun.append((status, headers))

        try:
            body = self._moto(environ, start_response)
        except NotImplementedError as absent:
            raise not_imitated(_described(environ, call)) from absent
        status, headers = begun[-1]
        answer = Reply(int(status[:3]), headers, body)
        if answer.status < 300:
            return answer
        answer = _held(answer)
        if answer.status >= 400 and not call.head and _is_page(answer):
            raise _meaning(answer, environ, call)
        return answer


def _described(environ: WSGIEnvironment, call: Call) -> str:
    """Return the name of a call; of one that only its path tells from others, what is known of it."""
    if call.operation is not None:
        return call.operation
    where = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}"
    return where if call.service is None else f"{where} of {call.service}"


def _is_page(answer: Reply) -> bool:
    """Return whether an error is a page for people, or an empty one."""
    content = b"".join(answer.body).lstrip()[:9].lower()
    if content:  # moto says "text/html" of much that is XML.
        return content.startswith((b"<!doctype", b"<html"))
    return any(name.lower() == "content-type" and "html" in value for name, value in answer.headers)


def _meaning(answer: Reply, environ: WSGIEnvironment, call: Call) -> AwsError:
    """Return the error that is behind a page for people, of which a client can make nothing."""
    if answer.status in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED):
        return not_imitated(_described(environ, call))
    if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return internal_failure(call)
    if answer.status == HTTPStatus.FORBIDDEN:
        return access_denied(call, "Access Denied")
    return AwsError("MalformedRequest", "The request cannot be read.", status=answer.status)


def _held(answer: Reply) -> Reply:
    """Return an answer whose body can be read more than once. Errors are short."""
    try:
        return answer._replace(body=[b"".join(answer.body)])
    finally:
        if (close := getattr(answer.body, "close", None)) is not None:
            close()


def _written(answer: dict[str, Any] | None) -> Reply:
    if answer is None:
        return reply(b"", content_type=AMZ_JSON, headers=[("x-amzn-RequestId", new_request_id())])
    return json_reply(answer, content_type=AMZ_JSON)


def _region(call: Call) -> str:
    if call.region is None:
        raise AwsError("MissingAuthenticationTokenException", "Missing Authentication Token", status=403)
    return call.region
