"""The deploy operator against the emulator: what there is becomes what is meant, or the task says why not."""

from __future__ import annotations

import uuid

import pytest

from airflow_async_sm.emulator import SageMakerAsyncEmulator
from airflow_async_sm.emulator.settings.faults import ConfigLate
from airflow_async_sm.exceptions import EndpointNotReady, RequestRejected, ServiceUnavailable
from airflow_async_sm.operators.deploy import SageMakerAsyncDeployOperator
from tests.deployments import Deployments
from tests.world import BUCKET, QUICK, World, echo, eventually

try:
    from airflow.sdk.exceptions import AirflowFailException
except ImportError:
    from airflow.exceptions import AirflowFailException

TOPIC = "arn:aws:sns:us-east-1:123456789012:answers"


@pytest.fixture(scope="module")
def world():
    with SageMakerAsyncEmulator(images={"program": echo}, behaviour=QUICK) as emulator:
        yield World(emulator)


@pytest.fixture
def its(world, run):
    return Deployments(world, run)


class TestCreation:
    def test_an_endpoint_is_made_with_a_model_and_a_configuration_named_after_their_content(self, its):
        made = its.deploy()
        (config,), (model,) = its.parts()
        assert made == {
            "endpoint_name": its.name,
            "endpoint_config_name": config,
            "model_name": model,
            "output_path": f"s3://{BUCKET}/answers",
            "failure_path": f"s3://{BUCKET}/answers-failures",
        }
        assert config.startswith(f"{its.name}-")
        assert its.described()["EndpointStatus"] == "InService"

    def test_everything_given_is_what_the_service_describes(self, its, world):
        topic = world.emulator.client("sns").create_topic(Name=f"t-{uuid.uuid4().hex}")["TopicArn"]
        made = its.deploy(
            environment={"THREADS": "2"},
            subnets=["subnet-1"],
            security_group_ids=["sg-1"],
            initial_instance_count=2,
            kms_key_id="alias/answers",
            success_topic=topic,
            error_topic=topic,
            include_inference_response_in=["SUCCESS_NOTIFICATION_TOPIC"],
            max_concurrent_invocations_per_instance=3,
            tags={"team": "risk"},
            extra_api_args={
                "create_model": {"EnableNetworkIsolation": True},
                "create_endpoint_config": {"ProductionVariants": [{"VolumeSizeInGB": 40}]},
            },
        )
        model = world.control.describe_model(ModelName=made["model_name"])
        assert model["PrimaryContainer"]["Environment"] == {"THREADS": "2"}
        assert model["VpcConfig"] == {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]}
        assert model["EnableNetworkIsolation"] is True
        config = world.control.describe_endpoint_config(EndpointConfigName=made["endpoint_config_name"])
        assert config["ProductionVariants"][0]["VolumeSizeInGB"] == 40
        assert config["ProductionVariants"][0]["InitialInstanceCount"] == 2
        output = config["AsyncInferenceConfig"]["OutputConfig"]
        assert output["KmsKeyId"] == "alias/answers"
        assert output["NotificationConfig"] == {
            "SuccessTopic": topic,
            "ErrorTopic": topic,
            "IncludeInferenceResponseIn": ["SUCCESS_NOTIFICATION_TOPIC"],
        }
        client = config["AsyncInferenceConfig"]["ClientConfig"]
        assert client == {"MaxConcurrentInvocationsPerInstance": 3}
        for arn in (model["ModelArn"], config["EndpointConfigArn"], its.described()["EndpointArn"]):
            assert world.control.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "team", "Value": "risk"}]

    def test_a_second_run_changes_nothing(self, its):
        first = its.deploy(tags={"team": "risk"}, scaling={"max_instances": 2})
        before = its.changes()
        assert its.deploy(tags={"team": "risk"}, scaling={"max_instances": 2}) == first
        assert its.changes() == before

    def test_a_model_that_exists_is_used(self, its, world):
        model = world.configure()
        made = its.deploy(image=None, execution_role_arn=None, model_name=model)
        assert made["model_name"] == model
        assert its.parts()[1] == []

    def test_a_configuration_that_exists_is_used(self, its, world):
        config = world.configure(output=f"s3://{BUCKET}/elsewhere")
        made = its.run(SageMakerAsyncDeployOperator, endpoint_name=its.name, endpoint_config_name=config)
        assert (made["endpoint_config_name"], made["output_path"]) == (config, f"s3://{BUCKET}/elsewhere")
        assert its.parts() == ([], [])

    def test_a_configuration_that_the_service_does_not_know_yet_is_waited_for(self, its, world):
        late = world.emulator.faults.add(ConfigLate(seconds=0.15))
        try:
            its.deploy()
        finally:
            world.emulator.faults.remove(late)
        assert its.described()["EndpointStatus"] == "InService"

    def test_a_task_that_does_not_wait_returns_the_handle(self, its):
        handle = its.deploy(wait_for_completion=False)
        assert (handle["endpoint_name"], handle["goal"]) == (its.name, "InService")
        assert its.described()["EndpointStatus"] in ("Creating", "InService")


class TestFailedCreation:
    def test_the_reason_is_in_the_error_and_nothing_is_left_to_pay_for(self, its):
        with pytest.raises(
            EndpointNotReady, match="is not in service after .*: Failed, .*log group"
        ) as failed:
            its.deploy(image="unknown/image:1")
        assert "It is being deleted" in str(failed.value)
        eventually(lambda: not its.exists())

    def test_it_is_kept_if_asked_for_and_the_next_attempt_clears_it_away(self, its):
        with pytest.raises(EndpointNotReady, match="Failed"):
            its.deploy(image="unknown/image:1", keep_failed=True)
        assert its.described()["EndpointStatus"] == "Failed"
        with pytest.raises(RequestRejected, match="It is kept, as keep_failed says"):
            its.deploy(image="unknown/image:1", keep_failed=True)
        its.deploy()
        assert its.described()["EndpointStatus"] == "InService"


class TestUpdate:
    def test_what_has_changed_is_updated_to_a_configuration_of_its_own(self, its, world):
        first = its.deploy()
        second = its.deploy(environment={"THREADS": "4"}, tags={"team": "risk"})
        assert first["endpoint_config_name"] != second["endpoint_config_name"]
        described = its.described()
        assert described["EndpointConfigName"] == second["endpoint_config_name"]
        tags = world.control.list_tags(ResourceArn=described["EndpointArn"])["Tags"]
        assert tags == [{"Key": "team", "Value": "risk"}]

    def test_what_goes_back_to_how_it_was_uses_what_there_is(self, its):
        first = its.deploy()
        its.deploy(environment={"THREADS": "4"})
        assert its.deploy() == first
        assert [len(names) for names in its.parts()] == [2, 2]

    def test_a_silent_roll_back_is_an_error_each_time(self, its):
        first = its.deploy()
        for _ in range(2):
            with pytest.raises(EndpointNotReady, match="InService, but with configuration .* instead of"):
                its.deploy(image="unknown/image:1")
            described = its.described()
            assert described["EndpointStatus"] == "InService"
            assert described["EndpointConfigName"] == first["endpoint_config_name"]

    def test_the_guardrails_of_an_update_reach_the_service(self, its):
        its.deploy()
        policy = {
            "BlueGreenUpdatePolicy": {
                "TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0},
                "TerminationWaitInSeconds": 0,
            }
        }
        its.deploy(environment={"THREADS": "4"}, deployment_config=policy)
        assert "BlueGreenUpdatePolicy" in its.described()["LastDeploymentConfig"]

    def test_somebody_elses_change_is_waited_for(self, its, world):
        made = its.deploy()
        other = world.configure()
        world.control.update_endpoint(EndpointName=its.name, EndpointConfigName=other)
        assert its.deploy() == made
        assert its.described()["EndpointConfigName"] == made["endpoint_config_name"]

    def test_a_task_that_does_not_wait_says_that_it_would_have_to(self, its, world, slowly):
        its.deploy(environment={"THREADS": "4"})
        slowly(update_seconds=600)
        world.control.update_endpoint(EndpointName=its.name, EndpointConfigName=world.configure())
        with pytest.raises(EndpointNotReady, match="another change goes on: Updating.*Nothing was changed"):
            its.deploy(wait_for_completion=False)

    def test_an_endpoint_can_be_taken_as_it_is(self, its):
        first = its.deploy()
        before = its.changes()
        assert its.deploy(environment={"THREADS": "4"}, if_exists="reuse") == first
        assert its.changes() == before

    def test_or_be_refused(self, its):
        its.deploy(if_exists="fail")
        its.deploy(if_exists="fail")  # The same again is a retry.
        with pytest.raises(RequestRejected, match="it exists, with configuration .*if_exists is 'fail'"):
            its.deploy(environment={"THREADS": "4"}, if_exists="fail")

    def test_a_real_time_endpoint_is_not_touched(self, its, world):
        real_time = world.deploy(asynchronous=False)
        with pytest.raises(RequestRejected, match="it is a real-time endpoint"):
            its.deploy(endpoint_name=real_time)
        with pytest.raises(RequestRejected, match="it is a real-time endpoint"):
            its.run(SageMakerAsyncDeployOperator, endpoint_name=real_time, endpoint_config_name=real_time)


class TestScaling:
    def test_an_endpoint_scales_once_it_is_in_service_and_again_after_a_change_of_the_machine(self, its):
        its.deploy(scaling={"max_instances": 3})
        assert its.scaling() == (1, 2, 0, 3)
        its.deploy(scaling={"max_instances": 3}, instance_type="ml.m5.xlarge")
        assert its.scaling() == (1, 2, 0, 3)
        assert its.described()["EndpointStatus"] == "InService"

    def test_an_endpoint_that_was_rolled_back_goes_on_scaling(self, its):
        its.deploy(scaling={"max_instances": 3})
        with pytest.raises(EndpointNotReady, match="instead of"):
            its.deploy(scaling={"max_instances": 3}, instance_type="ml.m5.xlarge", image="unknown/image:1")
        assert its.scaling() == (1, 2, 0, 3)

    def test_an_update_that_is_refused_leaves_it_scaling(self, its, monkeypatch):
        its.deploy(scaling={"max_instances": 3})

        def refuse(*_, **__):
            raise ServiceUnavailable("ResourceLimitExceeded")

        with monkeypatch.context() as used_up:
            used_up.setattr("airflow_async_sm.hooks._endpoints.EndpointCalls.update_endpoint", refuse)
            with pytest.raises(ServiceUnavailable):
                its.deploy(scaling={"max_instances": 3}, instance_type="ml.m5.xlarge")
        assert its.scaling() == (1, 2, 0, 3)

    def test_another_machine_for_an_endpoint_that_others_scale_is_refused(self, its):
        its.deploy(scaling={"max_instances": 3})
        with pytest.raises(RequestRejected, match="is scaled, and SageMaker refuses another kind of machine"):
            its.deploy(instance_type="ml.m5.xlarge")
        assert its.scaling() == (1, 2, 0, 3)

    def test_an_update_does_not_throw_back_what_somebody_has_warmed_up(self, its, world):
        its.deploy()
        wanted = {"VariantName": "AllTraffic", "DesiredInstanceCount": 2}
        world.control.update_endpoint_weights_and_capacities(
            EndpointName=its.name, DesiredWeightsAndCapacities=[wanted]
        )
        world.wait("endpoint_in_service", its.name)
        its.deploy(environment={"THREADS": "4"})
        assert its.described()["ProductionVariants"][0]["DesiredInstanceCount"] == 2

    def test_an_update_to_fewer_instances_has_fewer(self, its):
        its.deploy(initial_instance_count=2)
        its.deploy(initial_instance_count=1)
        assert its.described()["ProductionVariants"][0]["DesiredInstanceCount"] == 1

    def test_without_a_word_about_scaling_it_is_left_alone(self, its):
        its.deploy(scaling={"max_instances": 3})
        before = its.changes()
        its.deploy()
        assert its.changes() == before


class TestGivenNames:
    NAMES = ("endpoint_config_name", "model_name")

    @pytest.mark.parametrize("named", [("model_name",), NAMES])
    def test_a_given_name_with_other_content_is_refused_and_not_passed_over(self, its, named):
        names = {name: f"{its.name}-{name[0]}" for name in named}
        its.deploy(**names)
        its.deploy(**names)
        before = its.changes()
        with pytest.raises(RequestRejected, match="There is another model .*leave the name out"):
            its.deploy(**names, environment={"THREADS": "4"})
        assert its.changes() == before

    def test_a_given_configuration_with_other_content_is_refused(self, its):
        its.deploy(endpoint_config_name=f"{its.name}-c")
        with pytest.raises(RequestRejected, match="There is another endpoint configuration"):
            its.deploy(endpoint_config_name=f"{its.name}-c", initial_instance_count=2)


class TestBadInput:
    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            ({"execution_role_arn": ""}, "execution_role_arn is not given"),
            ({"output_path": "answers"}, "output_path is 'answers'; SageMaker accepts an S3 URI"),
            ({"output_path": "s3://"}, "output_path is 's3://'"),
            ({"model_data_url": "s3://bucket"}, "it names no object"),
            ({"endpoint_name": "a_b"}, "endpoint_name is 'a_b'"),
            ({"endpoint_name": "arn:aws:sagemaker:us-east-1:1:endpoint/x"}, "(a name, not an ARN)"),
            ({"initial_instance_count": 0}, "initial_instance_count is 0 instances"),
            (
                {"initial_instance_count": "many"},
                "initial_instance_count is 'many'",
            ),
            ({"instance_type": ""}, "instance_type is not given"),
            ({"instance_type": "ml.inf1.xlarge"}, "asynchronous"),
            ({"success_topic": TOPIC.replace("us-east-1", "eu-west-1")}, "the endpoint is in us-east-1"),
            ({"error_topic": f"{TOPIC}.fifo"}, "cannot publish to a FIFO topic"),
            ({"include_inference_response_in": ["SUCCESS"]}, "include_inference_response_in is ['SUCCESS']"),
            ({"scaling": {"max_instances": 1, "min_instances": 2}}, "is above max_instances"),
            ({"scaling": {"max_instances": 1}, "wait_for_completion": False}, "scaling is given with"),
            ({"if_exists": "replace"}, "if_exists is 'replace'; expected one of update, reuse, fail"),
            ({"extra_api_args": {"create": {}}}, "extra_api_args has create; the calls are"),
            ({"subnets": ["subnet-1"]}, "subnets and security_group_ids go together"),
            ({"deployment_config": {"Blue": {}}}, "deployment_config has Blue"),
            ({"model_name": "None"}, "model_name is the text 'None'"),
            ({"botocore_config": {"no_such": 1}}, "botocore_config cannot be used"),
        ],
    )
    def test_is_refused_before_anything_is_created(self, its, change, complaint):
        before = its.changes()
        with pytest.raises(RequestRejected) as refused:
            its.deploy(**change)
        assert complaint in str(refused.value)
        assert isinstance(refused.value, AirflowFailException)
        assert its.changes() == before

    @pytest.mark.parametrize(
        ("parts", "complaint"),
        [
            (
                {"endpoint_config_name": "none-such"},
                "configuration none-such cannot be used: it does",
            ),
            ({"endpoint_config_name": "real-time"}, "it has no AsyncInferenceConfig"),
            ({"model_name": "none-such"}, "Model none-such cannot be used: it does not exist"),
            (
                {"endpoint_config_name": "x", "instance_type": "ml.m5.large"},
                "instance_type cannot take effect",
            ),
            ({}, "Neither output_path nor endpoint_config_name is given"),
        ],
    )
    def test_parts_that_do_not_exist_or_do_not_fit_are_refused(self, its, world, parts, complaint):
        if parts.get("endpoint_config_name") == "real-time":
            parts = {"endpoint_config_name": world.configure(asynchronous=False)}
        if "model_name" in parts:
            parts = parts | {"output_path": f"s3://{BUCKET}/answers", "instance_type": "ml.m5.large"}
        before = its.changes()
        with pytest.raises(RequestRejected) as refused:
            its.run(SageMakerAsyncDeployOperator, endpoint_name=its.name, **parts)
        assert complaint in str(refused.value)
        assert its.changes() == before
