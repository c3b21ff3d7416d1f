"""Who answers which call."""

from __future__ import annotations

import io
import json

import pytest

from airflow_async_sm.emulator.errors import AwsError, control_refusal
from airflow_async_sm.emulator.web.calls import Call, Protocol
from airflow_async_sm.emulator.web.services import Services

ENDPOINT = "arn:aws:sagemaker:us-east-1:123456789012:endpoint/e"
MODEL = "arn:aws:sagemaker:us-east-1:123456789012:model/m"


class Everyone:
    """Control plane, runtime, scaling and moto in one: it notes who is asked, in order."""

    def __init__(self):
        self.asked = []
        self.refuses = set()
        self.tags = self
        self.moto_status = "200 OK"
        self.instead = None

    def __getattr__(self, name):
        def call(region, *arguments):
            self.asked.append(name if len(arguments) == 1 else f"{name} {arguments[0]}")
            if name in self.refuses:
                raise control_refusal("no")
            return {"from": name}

        return call

    def answer(self, region, operation, request):
        return {"from": operation} if operation.startswith("DescribeScaling") else None

    def accepted(self, region, operation, request):
        self.asked.append(f"accepted {operation}")
        return self.instead

    def invoke_async(self, region, name, headers, body):
        self.asked.append(("invoke_async", region, name, headers, body))
        return "id", "s3://b/out", None

    def moto(self, environ, start_response):
        self.asked.append("moto")
        if self.moto_status is None:
            raise NotImplementedError
        start_response(self.moto_status, [("Content-Type", "text/plain")])
        return iter([environ["wsgi.input"].read()])


@pytest.fixture
def everyone():
    return Everyone()


@pytest.fixture
def ask(everyone):
    services = Services(control=everyone, runtime=everyone, scaling=everyone, moto=everyone.moto)

    def answer(operation, request=None, *, service="sagemaker", region="us-east-1", internal=False):
        content = json.dumps(request or {}).encode()
        environ = {
            "CONTENT_LENGTH": str(len(content)),
            "wsgi.input": io.BytesIO(content),
            "REQUEST_METHOD": "POST",
        }
        call = Call(service, operation, Protocol.JSON, region, internal=internal)
        return services.answer(environ, call)

    return answer


@pytest.mark.parametrize(
    ("operation", "asked"),
    [
        ("CreateEndpoint", ["create_endpoint"]),
        ("DescribeEndpoint", ["describe_endpoint"]),
        ("UpdateEndpoint", ["update_endpoint"]),
        ("UpdateEndpointWeightsAndCapacities", ["update_weights_and_capacities"]),
        ("CreateModel", ["refuse_bad_model", "moto", "model_created"]),
        ("CreateEndpointConfig", ["refuse_bad_endpoint_config", "moto", "endpoint_config_created"]),
        ("DescribeModel", ["refuse_missing_model", "moto"]),
        ("DeleteModel", ["refuse_missing_model", "moto"]),
        ("DescribeEndpointConfig", ["refuse_missing_endpoint_config", "moto"]),
        ("DeleteEndpointConfig", ["refuse_missing_endpoint_config", "moto"]),
        ("ListModels", ["list_models"]),
        ("ListEndpointConfigs", ["list_endpoint_configs"]),
        ("ListHubs", ["moto"]),
    ],
)
def test_control_plane(everyone, ask, operation, asked):
    ask(operation)
    assert everyone.asked == asked


def test_refused_request_does_not_reach_moto(everyone, ask):
    everyone.refuses = {"refuse_missing_model", "check"}
    for operation, service in (
        ("DescribeModel", "sagemaker"),
        ("PutScalingPolicy", "application-autoscaling"),
    ):
        with pytest.raises(AwsError):
            ask(operation, service=service)
    assert "moto" not in everyone.asked


def test_what_moto_refuses_to_create_is_not_completed(everyone, ask):
    everyone.moto_status = "400 BAD REQUEST"
    assert ask("CreateModel").status == 400
    assert everyone.asked == ["refuse_bad_model", "moto"]


def test_emulators_own_look_at_a_model_is_not_checked(everyone, ask):
    ask("DescribeModel", internal=True)
    assert everyone.asked == ["moto"]


@pytest.mark.parametrize(
    ("operation", "method"), [("AddTags", "add"), ("ListTags", "list"), ("DeleteTags", "delete")]
)
def test_tags_of_endpoints_are_ours_and_others_are_motos(everyone, ask, operation, method):
    ask(operation, {"ResourceArn": ENDPOINT})
    ask(operation, {"ResourceArn": MODEL})
    ask(operation, {"ResourceArn": "arn:aws:sagemaker:us-east-1:123456789012:domain/d"})
    assert everyone.asked == [method, "refuse_missing_model", "moto", "moto"]


class TestScaling:
    SERVICE = "application-autoscaling"

    def test_it_is_asked_before_and_told_after_moto(self, everyone, ask):
        answer = ask("RegisterScalableTarget", {"MinCapacity": 0}, service=self.SERVICE)
        assert everyone.asked == ["check RegisterScalableTarget", "moto", "accepted RegisterScalableTarget"]
        assert b"".join(answer.body) == b'{"MinCapacity": 0}'

    def test_its_own_answer_comes_first(self, everyone, ask):
        everyone.instead = {"PolicyARN": "a"}
        answer = ask("PutScalingPolicy", service=self.SERVICE)
        assert everyone.asked == ["check PutScalingPolicy", "moto", "accepted PutScalingPolicy"]
        assert b"".join(answer.body) == b'{"PolicyARN": "a"}'

    def test_what_moto_refuses_is_not_accepted(self, everyone, ask):
        everyone.moto_status = "400 BAD REQUEST"
        assert ask("RegisterScalableTarget", service=self.SERVICE).status == 400
        assert everyone.asked == ["check RegisterScalableTarget", "moto"]

    @pytest.mark.parametrize("operation", ["DescribeScalingActivities", "DescribeScalingPolicies"])
    def test_what_it_answers_alone(self, everyone, ask, operation):
        answer = ask(operation, service=self.SERVICE)
        assert (everyone.asked, json.loads(answer.body[0])) == ([], {"from": operation})


def test_submission_has_its_headers_and_body_and_no_failure_location_unless_there_is_one(everyone):
    services = Services(control=everyone, runtime=everyone, scaling=everyone, moto=everyone.moto)
    environ = {
        "HTTP_X_AMZN_SAGEMAKER_INFERENCE_ID": "mine",
        "HTTP_ACCEPT": "other",
        "CONTENT_LENGTH": "2",
        "wsgi.input": io.BytesIO(b"ok"),
    }
    call = Call("sagemaker-runtime", "InvokeEndpointAsync", Protocol.REST_JSON, "eu-west-1", endpoint="e")
    answer = services.answer(environ, call)
    assert everyone.asked == [
        ("invoke_async", "eu-west-1", "e", {"x-amzn-sagemaker-inference-id": "mine"}, b"ok")
    ]
    assert (answer.status, json.loads(answer.body[0])) == (202, {"InferenceId": "id"})
    assert dict(answer.headers)["X-Amzn-SageMaker-OutputLocation"] == "s3://b/out"
    assert "X-Amzn-SageMaker-FailureLocation" not in dict(answer.headers)


def test_call_that_moto_lacks_is_named(everyone, ask):
    everyone.moto_status = None
    with pytest.raises(AwsError, match="ListHubs is not imitated") as refusal:
        ask("ListHubs")
    assert refusal.value.status == 501


def test_unsigned_call_is_refused(ask):
    with pytest.raises(AwsError) as refusal:
        ask("DescribeEndpoint", region=None)
    assert refusal.value.code == "MissingAuthenticationTokenException"
