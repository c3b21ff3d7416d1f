"""HTTP in and out: which requests are the emulator's own, how they are read, and how answers look."""

from __future__ import annotations

import io
import json
import re
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from werkzeug.wrappers import Request, Response

from airflow_async_sm.emulator.account.backend import Backend
from airflow_async_sm.emulator.errors import AwsError, control_refusal, not_imitated
from airflow_async_sm.emulator.web.gate import Gate

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from airflow_async_sm.emulator.work.records import RequestLog

# AWS gives no new bucket such a name: underscores are not allowed in one.
PAGES: Final = "/_emulator/"

_SCOPE = re.compile(r"Credential=[^/\s]+/\d{8}/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request")
_RUNTIME = re.compile(r"/endpoints/(?P<name>[^/]+)/(?P<call>async-invocations|invocations[^/]*)")
_CONTROL = "SageMaker."
_JSON: Final = "application/x-amz-json-1.1"
_TAG_CALLS: Final = {"AddTags", "DeleteTags", "ListTags"}


class FrontDoor:
    """
    A WSGI application that answers the emulator's own calls and passes everything else to moto.

    :param backend: Answers the calls.
    :param requests: The request log, for the pages.
    :param moto: The application behind this one.
    :param account_id: The one account, whatever the credentials say.
    :param gate: Refuses requests of web pages.
    """

    def __init__(
        self, *, backend: Backend, requests: RequestLog, moto: WSGIApplication, account_id: str, gate: Gate
    ) -> None:
        self._backend = backend
        self._requests = requests
        self._moto = moto
        self._account_id = account_id
        self._gate = gate
        # "Is there one already?" and "make it" are two steps; two callers must not both hear no.
        self._creating = threading.Lock()
        self._control: Mapping[str, Callable[[str, Mapping[str, Any]], dict[str, Any] | None]] = {
            "CreateEndpoint": backend.create_endpoint,
            "DescribeEndpoint": backend.describe_endpoint,
            "ListEndpoints": backend.list_endpoints,
            "DeleteEndpoint": backend.delete_endpoint,
            "UpdateEndpoint": _refused("UpdateEndpoint"),
            "UpdateEndpointWeightsAndCapacities": _refused("UpdateEndpointWeightsAndCapacities"),
        }
        self._checks: Mapping[str, Callable[[str, Mapping[str, Any]], None]] = {
            "CreateModel": backend.refuse_bad_model,
            "CreateEndpointConfig": backend.refuse_bad_endpoint_config,
        }

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        # moto gives the credentials of an assumed role an account of their own, in which there is nothing.
        environ["HTTP_X_MOTO_ACCOUNT_ID"] = self._account_id
        request = Request(environ)
        try:
            self._check_sender(request)
            answer = self._answer(request)
        except AwsError as error:
            answer = _error(error)
        if answer is None:
            return self._moto(environ, start_response)
        return answer(environ, start_response)

    def _check_sender(self, request: Request) -> None:
        headers = request.headers
        # A link may lead to the pages: they change nothing, and the site with the link cannot read them.
        site = None if request.path.startswith(PAGES) else headers.get("Sec-Fetch-Site")
        self._gate.check(host=headers.get("Host", ""), origin=headers.get("Origin"), site=site)

    def _answer(self, request: Request) -> Response | None:
        if request.path.startswith(PAGES):
            return self._page(request)
        target = request.headers.get("X-Amz-Target", "")
        if target.startswith(_CONTROL):
            return self._control_plane(request, target.removeprefix(_CONTROL))
        if request.method == "POST" and (call := _RUNTIME.fullmatch(request.path)):
            scope = _SCOPE.search(request.headers.get("Authorization", ""))
            if scope is None or scope["service"] == "sagemaker":
                return self._runtime(request, unquote(call["name"]), call["call"])
        return None

    def _page(self, request: Request) -> Response:
        pages: dict[str, Callable[[], list[dict[str, Any]]]] = {
            "requests": lambda: [record.as_json() for record in self._requests.all()],
            "endpoints": self._backend.overview,
        }
        page = pages.get(request.path.removeprefix(PAGES))
        if page is None or request.method != "GET":
            return _json({"error": f"There is GET {PAGES}requests and GET {PAGES}endpoints."}, status=404)
        return _json(page())

    def _control_plane(self, request: Request, call: str) -> Response:
        region = _region(request)
        if call in self._control:
            answer = self._control[call](region, _members(request))
            return Response(status=200, mimetype=_JSON) if answer is None else _json(answer, mimetype=_JSON)
        if call in self._checks:
            return self._checked(request, region, call)
        if call in _TAG_CALLS:
            arn = str(_members(request).get("ResourceArn", ""))
            if ":endpoint/" in arn:
                raise not_imitated(f"{call} for an endpoint")
        return self._ask_moto(request, call)

    def _ask_moto(self, request: Request, call: str) -> Response:
        try:
            return Response.from_app(self._moto, request.environ, buffered=True)
        except NotImplementedError as absent:
            raise not_imitated(call) from absent

    def _checked(self, request: Request, region: str, call: str) -> Response:
        members = _members(request)
        with self._creating:
            self._checks[call](region, members)
            return self._ask_moto(request, call)

    def _runtime(self, request: Request, name: str, call: str) -> Response:
        region = _region(request)
        body = request.get_data(cache=False)
        if call == "invocations":
            raise self._backend.invoke(region, name)
        if call != "async-invocations":
            raise not_imitated("InvokeEndpointWithResponseStream")
        headers = {header.lower(): value for header, value in request.headers.items()}
        inference_id, output, failure = self._backend.invoke_async(region, name, headers, body)
        answer = _json({"InferenceId": inference_id}, status=202)
        answer.headers["X-Amzn-SageMaker-OutputLocation"] = output
        if failure is not None:
            answer.headers["X-Amzn-SageMaker-FailureLocation"] = failure
        return answer


def _refused(call: str) -> Callable[[str, Mapping[str, Any]], dict[str, Any] | None]:
    def refuse(_region: str, _request: Mapping[str, Any]) -> dict[str, Any] | None:
        raise not_imitated(call)

    return refuse


def _region(request: Request) -> str:
    scope = _SCOPE.search(request.headers.get("Authorization", ""))
    if scope is None:
        raise AwsError("MissingAuthenticationTokenException", "Missing Authentication Token", status=403)
    return scope["region"]


def _members(request: Request) -> Mapping[str, Any]:
    body = request.get_data(cache=False)
    # moto reads the same bytes again if the call is passed on.
    request.environ["wsgi.input"] = io.BytesIO(body)
    try:
        members = json.loads(body or b"{}")
    except ValueError:
        members = None
    if not isinstance(members, dict):
        raise AwsError("SerializationException", "The request body is not a JSON object.")
    if any(name.endswith("Name") and not isinstance(value, str) for name, value in members.items()):
        raise control_refusal("1 validation error detected: a name must be text.")
    return members


def _json(value: Any, *, status: int = 200, mimetype: str = "application/json") -> Response:
    answer = Response(json.dumps(value), status=status, mimetype=mimetype)
    answer.headers["x-amzn-RequestId"] = str(uuid.uuid4())
    return answer


def _error(error: AwsError) -> Response:
    # The runtime's clients take the code from the header, the control plane's from "__type".
    answer = _json({"__type": error.code, "message": error.message}, status=error.status)
    answer.headers["x-amzn-ErrorType"] = error.code
    return answer
