from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from airflow_async_sm.emulator.account.endpoints import Endpoint
from tests.lab import own_client


class TestCreate:
    def test_container_gets_its_environment_and_model_and_no_foreign_credentials(self, world, monkeypatch):
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the user's own")
        monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "the user's own")
        archive = world.put_archive({"weights.txt": b"1 2 3"})
        name = world.deploy(environment={"MY_SETTING": "7"}, model_data=archive)

        answer = json.loads(
            world.body(world.ended(world.submit(name, mode="environment_back")).output_location)
        )

        assert answer["MY_SETTING"] == "7"
        assert answer["AWS_ENDPOINT_URL"] == world.emulator.url
        assert answer["AWS_REGION"] == "us-east-1"
        assert "the user's own" not in answer.values()
        assert answer["no_proxy"] == answer["NO_PROXY"]
        assert "127.0.0.1" in answer["NO_PROXY"].split(",")
        with open(os.path.join(answer["SM_MODEL_DIR"], "weights.txt")) as weights:  # noqa: PTH118, PTH123
            assert weights.read() == "1 2 3"

    def test_missing_configuration_is_refused(self, world, refused):
        call = world.control.create_endpoint
        assert refused(call, EndpointName="e", EndpointConfigName="Absent") == (
            "ValidationException",
            f'Could not find endpoint configuration "{world.arn("endpoint-config", "absent")}".',
        )

    def test_model_deleted_meanwhile_is_refused(self, world, refused):
        name = world.configure()
        world.control.delete_model(ModelName=name)
        assert refused(world.control.create_endpoint, EndpointName=name, EndpointConfigName=name) == (
            "ValidationException",
            f'Could not find model "{world.arn("model", name)}".',
        )

    def test_existing_name_is_refused_whatever_its_case(self, world, echo, refused):
        call = world.control.create_endpoint
        assert refused(call, EndpointName=echo.upper(), EndpointConfigName=echo) == (
            "ValidationException",
            f'Cannot create already existing endpoint "{world.arn("endpoint", echo)}".',
        )

    @pytest.mark.parametrize("name", ["-begins", "has_underscore", "x" * 64])
    def test_bad_name_is_refused(self, world, refused, echo, name):
        code, message = refused(world.control.create_endpoint, EndpointName=name, EndpointConfigName=echo)
        assert code == "ValidationException"
        assert message.startswith("1 validation error detected: endpointName")

    def test_more_instances_than_the_quota_are_refused(self, world, refused):
        name = world.configure(instances=21)
        code, message = refused(world.control.create_endpoint, EndpointName=name, EndpointConfigName=name)
        assert code == "ResourceLimitExceeded"
        assert "instance_quota" in message

    def test_region_is_that_of_the_signature(self, world, echo, refused):
        elsewhere = world.emulator.client("sagemaker", "eu-west-1")
        code, message = refused(elsewhere.describe_endpoint, EndpointName=echo)
        assert (code, "eu-west-1" in message) == ("ValidationException", True)
        assert elsewhere.list_endpoints()["Endpoints"] == []


class TestFailed:
    def test_unknown_image(self, world):
        reason = world.fail(image="nobody/knows:1")["FailureReason"]
        assert 'image "nobody/knows:1" not found' in reason

    def test_missing_model_data(self, world):
        url = "s3://contract-bucket/absent.tar.gz"
        assert f'model data from URL "{url}"' in world.fail(model_data=url)["FailureReason"]

    def test_model_data_that_is_no_archive(self, world):
        url = world.put(b"not a tar")
        assert "valid tar.gz archive" in world.fail(model_data=url)["FailureReason"]

    def test_container_that_exits(self, world, caplog):
        reason = world.fail(environment={"MODE": "exit"})["FailureReason"]
        assert "exit code 3" in reason
        assert "this model is broken" not in reason
        assert "this model is broken" in caplog.text

    def test_failed_endpoint_takes_no_requests_and_can_be_deleted(self, world, refused):
        name = world.fail(image="nobody/knows:1")["EndpointName"]
        code, message = refused(world.submit, name)
        assert (code, "is Failed" in message) == ("ValidationError", True)
        world.control.delete_endpoint(EndpointName=name)
        world.wait("endpoint_deleted", name)


class TestDelete:
    def test_missing_endpoint_is_an_error(self, world, refused):
        assert refused(world.control.delete_endpoint, EndpointName="absent") == (
            "ValidationException",
            f'Could not find endpoint "{world.arn("endpoint", "absent")}".',
        )

    def test_folder_is_removed(self, world):
        name = world.deploy(model_data=world.put_archive({"weights.txt": b"1 2 3"}))
        record = world.ended(world.submit(name, mode="environment_back"))
        folder = Path(json.loads(world.body(record.output_location))["SM_MODEL_DIR"]).parent
        assert folder.is_dir()
        world.control.delete_endpoint(EndpointName=name)
        world.wait("endpoint_deleted", name)
        assert not folder.exists()

    def test_queue_is_dropped_without_objects(self, world):
        name = world.deploy(concurrency=1)
        running = world.submit(name, mode="hang")
        queued = [world.submit(name) for _ in range(3)]

        world.control.delete_endpoint(EndpointName=name)
        world.wait("endpoint_deleted", name)

        for response in (running, *queued):
            assert world.record(response).state == "dropped"
            assert not world.exists(response["OutputLocation"])
            assert not world.exists(response["FailureLocation"])

    def test_name_can_be_used_again(self, world):
        name = world.deploy()
        world.control.delete_endpoint(EndpointName=name)
        world.wait("endpoint_deleted", name)
        world.control.create_endpoint(EndpointName=name, EndpointConfigName=name)
        world.wait("endpoint_in_service", name)
        assert world.ended(world.submit(name)).state == "succeeded"


class TestSize:
    @pytest.mark.parametrize(
        ("wanted", "said"),
        [
            ({"DesiredInstanceCount": -1}, "Value '-1' at '{}.desiredInstanceCount' failed to satisfy"),
            ({"DesiredWeight": -0.5}, "Value '-0.5' at '{}.desiredWeight' failed to satisfy"),
        ],
    )
    def test_less_than_nothing_is_refused(self, world, echo, refused, wanted, said):
        # The client library refuses to send it.
        careless = own_client(world.emulator.url, "sagemaker", parameter_validation=False)
        path = "desiredWeightsAndCapacities.1.member"
        expected = (
            "ValidationException",
            f"1 validation error detected: {said.format(path)} constraint: "
            "Member must have value greater than or equal to 0",
        )
        variant = world.control.describe_endpoint(EndpointName=echo)["ProductionVariants"][0]
        call = careless.update_endpoint_weights_and_capacities
        several = [{"VariantName": variant["VariantName"], **wanted}]
        assert refused(call, EndpointName=echo, DesiredWeightsAndCapacities=several) == expected
        careless.close()
        after = world.control.describe_endpoint(EndpointName=echo)
        assert after["EndpointStatus"] == "InService"
        assert after["ProductionVariants"][0] == variant


class TestList:
    def test_endpoints_are_listed_by_page(self, world):
        names = {world.configure() for _ in range(3)}
        for name in names:
            world.control.create_endpoint(EndpointName=name, EndpointConfigName=name)
        pages = world.control.get_paginator("list_endpoints").paginate(PaginationConfig={"PageSize": 2})
        listed = [endpoint["EndpointName"] for page in pages for endpoint in page["Endpoints"]]
        assert names <= set(listed)
        assert len(listed) == len(set(listed))
        for name in names:
            world.wait("endpoint_in_service", name)


class TestFailureOfTheEmulator:
    @pytest.mark.parametrize("step", ["announcement", "creation"])
    def test_endpoint_whose_creation_failed_leaves_nothing(self, world, monkeypatch, step):
        backend, create = world.emulator._assembly._backend, Endpoint.create
        folder = backend._site.folder
        name, before = world.configure(), set(folder.iterdir())

        def fail(endpoint_or_config, *count):
            if step == "creation":
                create(endpoint_or_config, *count)
            raise RuntimeError("This is not the service's fault.")

        if step == "creation":
            monkeypatch.setattr(Endpoint, "create", fail)
        else:
            monkeypatch.setattr(backend, "_announce", fail)
        control = own_client(world.emulator.url, "sagemaker")
        with pytest.raises(ClientError) as failure:
            control.create_endpoint(EndpointName=name, EndpointConfigName=name)
        control.close()
        assert failure.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
        assert set(folder.iterdir()) == before
        assert world.control.list_endpoints(NameContains=name)["Endpoints"] == []


class TestNotImitated:
    @pytest.mark.parametrize(
        ("call", "arguments"),
        [
            ("create_hub", {"HubName": "h", "HubDescription": "d"}),
        ],
    )
    def test_call_is_refused_with_its_name(self, world, refused, call, arguments):
        code, message = refused(getattr(world.control, call), **arguments)
        assert code == "NotImplementedException"
        assert message.startswith("".join(word.title() for word in call.split("_")))

    def test_tags_of_a_model_are_left_to_moto(self, world, echo):
        model = world.control.describe_model(ModelName=echo)["ModelArn"]
        assert world.control.list_tags(ResourceArn=model)["Tags"] == []
