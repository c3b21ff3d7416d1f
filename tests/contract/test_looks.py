"""Looks at requests, against the emulator: in exact places and in folders, refused, and at endpoints."""

from __future__ import annotations

import dataclasses
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product

import pytest
from botocore.exceptions import ReadTimeoutError

from airflow_async_sm.core.failures import LOOK_REFUSED
from airflow_async_sm.core.handles import InvocationHandle
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.outcomes import End, LookError, Outcome, Pending, Settled
from airflow_async_sm.core.requests import InvocationRequest
from airflow_async_sm.emulator import airflow_connection
from airflow_async_sm.emulator.settings.faults import (
    EndpointImpaired,
    ExpiredCredentials,
    ListDenied,
    S3Denied,
    S3SlowDown,
    ServiceFailed,
    Throttled,
)
from airflow_async_sm.emulator.settings.unknowns import (
    BothObjects,
    DeletedQueue,
    FailureExtension,
    FailureFilename,
    FilenameSuffix,
)
from airflow_async_sm.exceptions import (
    EndpointLost,
    LookForbidden,
    RequestRejected,
    ServiceUnavailable,
    outcome_error,
)
from airflow_async_sm.hooks import _looks
from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook
from tests.world import BUCKET, eventually

# Hook and emulator: Airflow gives the connection, which other tests look at on each of its versions.
pytestmark = pytest.mark.default_airflow

# Longer than a request is left alone, and than an endpoint is not asked for again.
LATER = 61.0


class Watcher(SageMakerAsyncHook):
    """A hook whose time a test moves, and which counts what it calls."""

    ahead = 0.0

    def clock(self):
        return time.time() + self.ahead

    def count(self, client, operation):
        calls = []
        client.meta.events.register(
            f"before-call.{client.meta.service_model.service_id.hyphenize()}.{operation}",
            lambda **_: calls.append(operation),
        )
        return calls


@pytest.fixture(scope="module")
def sessions():
    """One session for all hooks of this module: what a new one has to load takes half a second."""
    return []


@pytest.fixture
def hook(world, sessions, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", airflow_connection(world.emulator.url))
    hook = Watcher()
    if not sessions:
        sessions.append(hook._session)
    vars(hook)["_session"] = sessions[0]
    return hook


@pytest.fixture
def faults(world):
    yield world.emulator.faults
    world.emulator.faults.clear()


@pytest.fixture
def turn(world):
    """Return a function that changes settings of the emulator for one test."""
    before = dataclasses.asdict(world.emulator.knobs.unknowns)
    behaviour = dataclasses.asdict(world.emulator.knobs.behaviour)
    yield world.emulator.knobs.change
    world.emulator.knobs.change(unknowns=before, behaviour=behaviour)


def submitted(hook, name, mode="echo", **arguments):
    return hook.invoke_endpoint_async(
        InvocationRequest(endpoint_name=name, custom_attributes=mode, body=b"payload", **arguments)
    )


def folders(handle, extension, output="out", failures="failures"):
    """Return the handle that a request has whose reply was lost."""
    return replace(
        handle,
        output_location=f"s3://{BUCKET}/{output}/{extension}/",
        failure_location=failures and f"s3://{BUCKET}/{failures}/{extension}/",
    )


def own_folder():
    return f"airflow/dag/{uuid.uuid4()}"


def ended(world, handle):
    world.ended({"OutputLocation": handle.output_location})


def made_up(**changes):
    """Return a handle of a request that was never made."""
    place = uuid.uuid4()
    arguments = {
        "endpoint_region": "us-east-1",
        "output_location": f"s3://{BUCKET}/out/{place}.out",
        "failure_location": f"s3://{BUCKET}/failures/{place}-error.out",
        "submitted_at": time.time(),
        "expires_at": time.time() + 3_600,
    }
    return InvocationHandle(**(arguments | changes))


class TestFolders:
    @pytest.mark.parametrize("both", BothObjects)
    @pytest.mark.parametrize("named", [False, True], ids=["generated", "filename"])
    def test_an_answer_is_found_in_every_position(self, world, echo, hook, turn, both, named):
        requests = []
        for suffix, extension, filename in product(FilenameSuffix, FailureExtension, FailureFilename):
            turn(
                unknowns={
                    "filename_suffix": suffix,
                    "failure_extension": extension,
                    "failure_filename": filename,
                    "both_objects": both,
                }
            )
            place = own_folder()
            more = {"filename": f"{place[-12:]}.json"} if named else {}
            requests.append((submitted(hook, echo, s3_output_path_extension=place, **more), place))
        for exact, place in requests:
            ended(world, exact)
            handle = folders(exact, place)
            assert hook.look_at_result(handle) == Settled(True, location=exact.output_location)
            assert hook.look_at_result(exact) == Settled(True)

    @pytest.mark.parametrize("filename", FailureFilename)
    def test_a_failure_is_found_in_its_folder(self, world, echo, hook, turn, filename):
        turn(unknowns={"failure_filename": filename})
        place = own_folder()
        exact = submitted(hook, echo, "refuse", s3_output_path_extension=place, filename="a.json")
        ended(world, exact)
        assert hook.look_at_result(folders(exact, place)) == Settled(False, location=exact.failure_location)

    def test_a_failure_that_is_not_in_its_folder_is_not_taken_from_another(self, world, echo, hook, turn):
        turn(unknowns={"failure_extension": FailureExtension.IGNORED})
        place = own_folder()
        exact = submitted(hook, echo, "refuse", s3_output_path_extension=place)
        ended(world, exact)
        assert hook.look_at_result(exact) == Settled(False)
        assert hook.look_at_result(folders(exact, place)) == Pending()

    @pytest.mark.parametrize("failures", ["same", "same/errors", "same/", "same//"])
    @pytest.mark.parametrize("mode", ["echo", "refuse"])
    def test_in_one_folder_for_both_their_names_tell_them_apart(self, world, hook, failures, mode):
        name = world.deploy(output=f"s3://{BUCKET}/same", failure=f"s3://{BUCKET}/{failures}")
        exact = submitted(hook, name, mode)
        ended(world, exact)
        handle = replace(
            exact,
            output_location=f"s3://{BUCKET}/same/",
            failure_location=f"s3://{BUCKET}/{failures.rstrip('/')}/",
        )
        expected = exact.output_location if mode == "echo" else exact.failure_location
        assert hook.look_at_result(handle) == Settled(mode == "echo", location=expected)
        for location in (exact.output_location, exact.failure_location):
            key = location.removeprefix(f"s3://{BUCKET}/")
            world.s3.delete_object(Bucket=BUCKET, Key=key)

    def test_neither_the_folder_itself_nor_a_neighbour_is_an_answer(self, world, hook):
        place = own_folder()
        for key in (f"out/{place}/", f"out/{place}-2/1.out", f"out/{place}0/1.out", f"out/{place}.out"):
            world.put(b"", key=key)
        handle = folders(made_up(), place)
        assert hook.look_at_result(handle) == Pending()
        there = world.put(b"", key=f"out/{place}/1.out")
        assert hook.look_at_result(handle) == Settled(True, location=there)

    @pytest.mark.parametrize("key", ["out//{}/1.out", "out/{}/1.out", "out//{}//1.out"])
    def test_a_path_with_a_slash_at_its_end_may_lead_to_either_folder(self, world, hook, key):
        place = own_folder()
        there = world.put(b"", key=key.format(place))
        assert hook.look_at_result(folders(made_up(), place, output="out/")) == Settled(True, location=there)

    def test_an_https_address_is_a_folder_too(self, world, hook):
        place = own_folder()
        there = world.put(b"", key=f"out/{place}/1.out")
        handle = made_up(output_location=f"https://{BUCKET}.s3.us-east-1.amazonaws.com/out/{place}/")
        assert hook.look_at_result(handle) == Settled(True, location=there)

    @pytest.mark.parametrize("folder", [f"s3://{BUCKET}/", f"s3://{BUCKET}//"])
    def test_a_whole_bucket_is_nobodys_own_folder(self, hook, folder):
        with pytest.raises(InvalidInput, match="whole bucket"):
            hook.look_at_result(made_up(output_location=folder))

    def test_a_bucket_that_does_not_exist_is_said(self, hook):
        with pytest.raises(RequestRejected, match="NoSuchBucket"):
            hook.look_at_result(made_up(output_location="s3://no-such-bucket/out/"))

    def test_without_the_right_to_list_a_folder_shows_nothing(self, hook, faults):
        faults.add(ListDenied())
        handle = folders(made_up(), own_folder())
        assert hook.look_at_result(handle).fatal
        assert isinstance(hook.look_at_result(handle, on_403="wait"), Pending)


class TestBothObjects:
    def test_an_output_that_came_between_the_two_looks_counts(self, world, hook):
        handle = made_up()
        key = handle.output_location.removeprefix(f"s3://{BUCKET}/")
        world.put(b"", key=handle.failure_location.removeprefix(f"s3://{BUCKET}/"))
        assert hook.look_at_result(handle) == Settled(False)
        looks = hook.count(hook._s3_looking, "HeadObject")

        def arrive(**_):
            if len(looks) == 2:
                world.put(b"", key=key)

        hook._s3_looking.meta.events.register("before-call.s3.HeadObject", arrive)
        assert hook.look_at_result(handle) == Settled(True)

    def test_without_a_failure_place_only_the_output_is_looked_for(self, hook):
        looks = hook.count(hook._s3_looking, "HeadObject")
        assert hook.look_at_result(made_up(failure_location=None)) == Pending()
        assert len(looks) == 1


class TestRefusals:
    def test_who_may_list_is_told_what_is_there(self, world, hook, faults):
        handle = made_up()
        faults.add(S3Denied(operation="HeadObject"))
        assert hook.look_at_result(handle) == Pending()
        world.put(b"", key=handle.output_location.removeprefix(f"s3://{BUCKET}/") + ".more")
        assert hook.look_at_result(handle) == Pending()
        world.put(b"", key=handle.failure_location.removeprefix(f"s3://{BUCKET}/"))
        assert hook.look_at_result(handle) == Settled(False)
        world.put(b"", key=handle.output_location.removeprefix(f"s3://{BUCKET}/"))
        assert hook.look_at_result(handle) == Settled(True)

    def test_a_key_that_is_denied_hides_no_object(self, world, hook, faults):
        handle = made_up()
        world.put(b"", key=handle.output_location.removeprefix(f"s3://{BUCKET}/"))
        faults.add(S3Denied(operation="HeadObject", kms=True))
        assert hook.look_at_result(handle) == Settled(True)

    def test_who_may_not_list_is_told_which_rights_are_missing(self, hook, faults):
        handle = made_up()
        faults.add(ListDenied())
        seen = hook.look_at_result(handle)
        assert isinstance(seen, LookError)
        assert seen.fatal
        for part in (LOOK_REFUSED, handle.output_location, "s3:GetObject", "s3:ListBucket", "on_403='wait'"):
            assert part in seen.detail
        outcome = Outcome(end=End.LOOK_FAILED, seen_at=time.time(), detail=seen.detail)
        error = outcome_error(handle, outcome)
        assert type(error) is LookForbidden
        assert str(error).count("s3:GetObject") == 1

    def test_a_failure_that_is_seen_counts_though_the_output_is_hidden(self, world, hook, faults):
        handle = made_up()
        world.put(b"", key=handle.failure_location.removeprefix(f"s3://{BUCKET}/"))
        faults.add(ListDenied())
        assert hook.look_at_result(handle) == Settled(False)

    def test_a_failure_place_that_is_hidden_ends_the_wait_too(self, world, hook, faults):
        world.s3.create_bucket(Bucket="hidden-bucket")
        faults.add(ListDenied(bucket="hidden-bucket"))
        handle = made_up(failure_location="s3://hidden-bucket/1-error.out")
        assert "bucket hidden-bucket" in hook.look_at_result(handle).detail
        assert "s3://hidden-bucket/1-error.out" in hook.look_at_result(handle, on_403="wait").status

    def test_who_waits_sees_the_object_when_it_is_there_and_asks_for_the_list_once(self, world, hook, faults):
        handle = made_up(failure_location=None)
        faults.add(ListDenied())
        listings = hook.count(hook._s3_looking, "ListObjectsV2")
        for _ in range(3):
            seen = hook.look_at_result(handle, on_403="wait")
            assert seen.status.startswith(LOOK_REFUSED)
        assert len(listings) == 1
        world.put(b"", key=handle.output_location.removeprefix(f"s3://{BUCKET}/"))
        assert hook.look_at_result(handle, on_403="wait") == Settled(True)

    def test_who_does_not_wait_asks_again_because_rights_change(self, hook, faults):
        handle = made_up()
        denied = faults.add(ListDenied())
        assert hook.look_at_result(handle).fatal
        faults.remove(denied)
        faults.add(S3Denied(operation="HeadObject"))
        assert hook.look_at_result(handle) == Pending()

    def test_wrong_credentials_are_no_missing_right(self, hook, monkeypatch):
        def refuse(status, code):
            error = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}
            return lambda **_: (type("Reply", (), {"status_code": status})(), error)

        events = hook._s3_looking.meta.events
        events.register("before-call.s3.HeadObject", refuse(403, "403"))
        events.register("before-call.s3.ListObjectsV2", refuse(403, "InvalidAccessKeyId"))
        with pytest.raises(RequestRejected, match="InvalidAccessKeyId"):
            hook.look_at_result(made_up())

    @pytest.mark.parametrize(
        ("fault", "location", "error"),
        [
            # An answer to HEAD does not say what is wrong.
            (ExpiredCredentials(), "out/1.out", RequestRejected),
            (ExpiredCredentials(), "out/own/", ServiceUnavailable),
            (S3SlowDown(), "out/1.out", ServiceUnavailable),
            (S3SlowDown(), "out/own/", ServiceUnavailable),
        ],
        ids=["expired", "expired in a folder", "busy", "busy in a folder"],
    )
    def test_what_is_no_refusal_is_raised(self, hook, faults, fault, location, error):
        faults.add(fault)
        with pytest.raises(error):
            hook.look_at_result(made_up(output_location=f"s3://{BUCKET}/{location}"))

    def test_an_answer_to_refusals_that_is_not_known_is_refused(self, hook):
        with pytest.raises(InvalidInput, match="'fail' or 'wait'"):
            hook.look_at_result(made_up(), on_403="hope")


class TestEndpoints:
    @pytest.fixture
    def waiting(self, world, hook):
        """Return the handle of a request that an endpoint of its own never answers."""
        return submitted(hook, world.deploy(), "hang")

    def test_a_young_request_leaves_the_endpoint_alone(self, hook, waiting):
        calls = hook.count(hook._sagemaker_looking, "DescribeEndpoint")
        hook.ahead = 50
        assert hook.look_at_result(waiting) == Pending()
        assert isinstance(hook.look_at_result(waiting), Pending)
        assert calls == []

    def test_what_the_endpoint_is_at_is_told(self, hook, waiting, faults):
        hook.ahead = LATER
        assert hook.look_at_result(waiting) == Pending("the endpoint is InService, 1 of 1 instances")
        faults.add(EndpointImpaired(status="OutOfService"))
        hook.ahead *= 2
        assert hook.look_at_result(waiting) == Pending("the endpoint is OutOfService, 1 of 1 instances")
        assert isinstance(hook.look_at_result(waiting), Pending)

    @pytest.mark.parametrize("open_requests", DeletedQueue)
    def test_with_its_endpoint_a_request_is_lost(self, world, hook, waiting, turn, open_requests):
        turn(unknowns={"deleted_queue": open_requests})
        hook.ahead = LATER
        assert isinstance(hook.look_at_result(waiting), Pending)
        hook.delete_endpoint(waiting.endpoint_name)
        eventually(lambda: hook.describe_endpoint(waiting.endpoint_name) is None)
        hook.ahead *= 2
        seen = hook.look_at_result(waiting)
        if open_requests is DeletedQueue.FAILED:
            assert seen == Settled(False)
            return
        name = waiting.endpoint_name
        assert seen == Settled(False, f"Endpoint {name} does not exist any more.")
        error = outcome_error(waiting, Outcome(end=End.FAILED, seen_at=time.time(), detail=seen.detail))
        assert type(error) is EndpointLost
        assert "A retry of the task submits a new request." in str(error)

    @pytest.mark.parametrize("region", ["eu-west-1", None])
    def test_an_endpoint_that_does_not_exist_in_another_region_is_no_loss(self, hook, region):
        hook.ahead = LATER
        seen = hook.look_at_result(made_up(endpoint_name="elsewhere", endpoint_region=region))
        assert seen == Pending("the endpoint does not exist")

    def test_a_folder_is_lost_with_its_endpoint_too(self, hook):
        hook.ahead = LATER
        handle = folders(made_up(endpoint_name="never-was"), own_folder())
        assert hook.look_at_result(handle) == Settled(False, "Endpoint never-was does not exist any more.")

    def test_an_object_that_came_before_the_endpoints_end_counts(self, world, hook):
        handle = made_up(endpoint_name="long-gone")
        hook.ahead = LATER
        hook._sagemaker_looking.meta.events.register(
            "before-call.sagemaker.DescribeEndpoint",
            lambda **_: world.put(b"", key=handle.output_location.removeprefix(f"s3://{BUCKET}/")) and None,
        )
        assert hook.look_at_result(handle) == Settled(True)

    def test_a_failed_endpoint_answers_nothing(self, world, hook):
        name = world.fail(image="unknown/image:1")["EndpointName"]
        hook.ahead = LATER
        seen = hook.look_at_result(made_up(endpoint_name=name))
        assert seen.succeeded is False
        assert seen.detail.startswith(f"Endpoint {name} is Failed, 0 of 1 instances: ")

    def test_an_endpoint_that_is_created_anew_knows_nothing_of_the_request(
        self, world, hook, waiting, turn, monkeypatch
    ):
        name = waiting.endpoint_name
        hook.delete_endpoint(name)
        eventually(lambda: hook.describe_endpoint(name) is None)
        turn(behaviour={"creation_seconds": 3_600})
        world.control.create_endpoint(EndpointName=name, EndpointConfigName=name)
        hook.ahead = LATER
        lost = Settled(False, f"Endpoint {name} was created anew after the request was submitted.")
        assert hook.look_at_result(waiting) == lost

        # In service it is told from the old one by its age.
        turn(behaviour={"creation_seconds": 0})
        other = f"{name}-2"
        world.control.create_endpoint(EndpointName=other, EndpointConfigName=name)
        world.wait("endpoint_in_service", other)
        earlier = replace(waiting, endpoint_name=other, submitted_at=waiting.submitted_at - LATER)
        assert "created anew" in hook.look_at_result(earlier).detail
        assert isinstance(hook.look_at_result(replace(waiting, endpoint_name=other)), Pending)

    def test_an_endpoint_that_rolls_back_keeps_the_request(self, world, hook, waiting, turn):
        turn(behaviour={"rollback_seconds": 3_600})
        name = waiting.endpoint_name
        world.control.update_endpoint(
            EndpointName=name, EndpointConfigName=world.configure(image="unknown/image:1")
        )
        eventually(lambda: hook.describe_endpoint(name)["EndpointStatus"] == "RollingBack")
        hook.ahead = LATER
        assert hook.look_at_result(waiting).status.startswith("the endpoint is RollingBack, ")
        assert isinstance(hook.look_at_result(waiting), Pending)

    def test_many_waits_ask_once_a_minute(self, hook, echo):
        calls = hook.count(hook._sagemaker_looking, "DescribeEndpoint")
        # Names that differ in case are one endpoint.
        handles = [made_up(endpoint_name=name) for name in (echo, echo.upper()) for _ in range(20)]
        hook.ahead = LATER
        _ = hook._s3_looking
        for minute in range(1, 4):
            hook.ahead = LATER * minute
            begin = threading.Barrier(8)

            def look(handle, begin=begin):
                begin.wait(20)
                return hook.look_at_result(handle)

            with ThreadPoolExecutor(8) as pool:
                seen = list(pool.map(look, handles))
            assert {type(one) for one in seen} == {Pending}
            assert len(calls) == minute

    def test_a_clock_that_was_set_back_forbids_nothing(self, hook, echo):
        calls = hook.count(hook._sagemaker_looking, "DescribeEndpoint")
        handle = made_up(endpoint_name=echo)
        for ahead in (7_200, LATER):
            hook.ahead = ahead
            hook.look_at_result(handle)
        assert len(calls) == 2

    def test_what_was_seen_before_the_request_is_not_held_against_it(self, world, hook):
        name = world.configure()
        hook.ahead = LATER
        handle = made_up(endpoint_name=name)
        assert hook.look_at_result(handle) == Settled(False, f"Endpoint {name} does not exist any more.")
        # Seen half a minute after it was submitted, as far as clocks can be trusted.
        later = replace(handle, submitted_at=handle.submitted_at + 31)
        hook.ahead += 31
        assert hook.look_at_result(later) == Pending("the endpoint does not exist")
        hook.ahead += 30
        assert hook.look_at_result(later) == Settled(False, f"Endpoint {name} does not exist any more.")

    def test_who_may_not_describe_asks_once_and_says_so_once(self, hook, monkeypatch):
        lines = []
        monkeypatch.setattr(hook.log, "info", lambda text, *values: lines.append(text % values))
        calls = hook.count(hook._sagemaker_looking, "DescribeEndpoint")
        error = {"Error": {"Code": "AccessDeniedException", "Message": "not authorized"}}
        hook._sagemaker_looking.meta.events.register(
            "before-call.sagemaker.DescribeEndpoint",
            lambda **_: (type("Reply", (), {"status_code": 400})(), error | {"ResponseMetadata": {}}),
        )
        handle = made_up(endpoint_name="model")
        for minute in range(1, 4):
            hook.ahead = LATER * minute
            assert hook.look_at_result(handle) == Pending()
        assert len(calls) == 1
        assert [line.startswith("Endpoint model is not watched") for line in lines] == [True]

    @pytest.mark.parametrize(
        "fault",
        [
            Throttled(operation="DescribeEndpoint"),
            ServiceFailed(operation="DescribeEndpoint"),
            ServiceFailed(operation="DescribeEndpoint", status=503),
        ],
        ids=["throttled", "500", "503"],
    )
    def test_a_service_that_does_not_answer_hinders_no_look(self, hook, echo, faults, fault):
        calls = hook.count(hook._sagemaker_looking, "DescribeEndpoint")
        faults.add(fault)
        handle = made_up(endpoint_name=echo)
        hook.ahead = LATER
        assert [hook.look_at_result(handle) for _ in range(3)] == [Pending()] * 3
        assert len(calls) == 1
        faults.clear()
        hook.ahead *= 2
        assert hook.look_at_result(handle) == Pending("the endpoint is InService, 1 of 1 instances")

    def test_a_service_that_cannot_be_reached_hinders_no_look(self, hook, echo):
        def lose(**_):
            raise ReadTimeoutError(endpoint_url="http://127.0.0.1")

        hook._sagemaker_looking.meta.events.register("before-call.sagemaker.DescribeEndpoint", lose)
        hook.ahead = LATER
        assert hook.look_at_result(made_up(endpoint_name=echo)) == Pending()

    def test_a_refusal_and_the_endpoint_are_told_together(self, hook, echo, faults):
        faults.add(ListDenied())
        hook.ahead = LATER
        status = hook.look_at_result(made_up(endpoint_name=echo), on_403="wait").status
        assert status.startswith(LOOK_REFUSED)
        assert status.endswith("; the endpoint is InService, 1 of 1 instances")

    def test_the_limits_are_a_minute(self):
        assert _looks.ENDPOINT_SECONDS == _looks.CLOCKS_DIFFER == 60
