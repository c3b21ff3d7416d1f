from __future__ import annotations

import pytest

from airflow_async_sm.core.preflight import FolderFacts, Level, NotSeen, PreflightFacts
from airflow_async_sm.core.preflight_checks import NEWER_MEMBERS, preflight_checks
from airflow_async_sm.core.scaling import WAKE_METRIC, ScalingState

REGION = "eu-west-1"
DENIED = NotSeen("no", "the:Right")
UNREACHED = NotSeen("no network")
POLICY = {"PolicyARN": "arn:policy", "PolicyType": "StepScaling"}
ALARM = {"MetricName": WAKE_METRIC, "AlarmActions": ["arn:policy"]}
IDENTITY = {"Arn": "arn:me", "Account": "123456789012"}
KEY = "alias/answers"


def scaling(*, least=0, most=3, wakes=True, **more):
    return ScalingState(
        target={"MinCapacity": least, "MaxCapacity": most},
        policies=(POLICY,),
        alarms=(ALARM,) if wakes else (),
        **more,
    )


def endpoint(status="InService", *, current=1, desired=1, output=None, asynchronous=True, **more):
    paths = {"S3OutputPath": "s3://b/out", "S3FailurePath": "s3://b/fail"} if output is None else output
    counts = {"CurrentInstanceCount": current, "DesiredInstanceCount": desired}
    described = {"EndpointStatus": status, "ProductionVariants": [counts], **more}
    return described | ({"AsyncInferenceConfig": {"OutputConfig": paths}} if asynchronous else {})


def folder(**changes):
    values = {"name": "output", "uri": "s3://b/out", "region": REGION, "sample": None, "encrypted": False}
    return FolderFacts(**(values | changes))


def checks(**changes):
    values = {
        "endpoint_name": "ep",
        "region": REGION,
        "identity": IDENTITY,
        "endpoint": endpoint(),
        "scaling": ScalingState(),
        "folders": (folder(),),
        "boto3_version": "1.2.3",
        "members": frozenset(NEWER_MEMBERS),
    }
    found = preflight_checks(PreflightFacts(**(values | changes)))
    assert len({check.name for check in found}) == len(found)
    return {check.name: check for check in found}


def assert_found(check, level, *texts):
    assert (check.level, [text for text in texts if text not in check.text]) == (level, [])


def test_a_healthy_endpoint_has_nothing_but_good_checks():
    found = checks(folders=(folder(), folder(name="failure", uri="s3://b/fail")))
    assert list(found) == [
        "connection",
        "endpoint",
        "asynchronous",
        "failure path",
        "capacity",
        "output bucket",
        "output listing",
        "output reading",
        "failure bucket",
        "failure listing",
        "failure reading",
        "boto3",
    ]
    assert {check.level for check in found.values()} == {Level.OK}
    assert found["connection"].text == "arn:me, account 123456789012, region eu-west-1."
    assert found["boto3"].text == "1.2.3 can send everything that is used."


class TestConnection:
    def test_an_airflow_connection_that_does_not_exist_is_a_warning_that_says_whose_account_it_is(self):
        found = checks(missing_connection="typo")["connection"]
        assert_found(found, Level.WARNING, "no Airflow connection 'typo'", "account 123456789012")

    def test_it_failed_if_nothing_can_be_asked(self):
        found = checks(identity=UNREACHED, endpoint=UNREACHED, folders=())
        assert_found(found["connection"], Level.FAILED, "no network.")
        assert found["endpoint"].level is Level.FAILED

    def test_it_works_if_only_the_caller_cannot_be_told(self):
        assert_found(
            checks(identity=DENIED)["connection"], Level.WARNING, "no. The right it takes is the:Right."
        )


class TestEndpoint:
    def test_what_cannot_be_looked_at_names_the_right_and_hides_nothing_else(self):
        found = checks(endpoint=DENIED, folders=())
        assert list(found) == ["connection", "endpoint", "boto3"]
        assert_found(found["endpoint"], Level.WARNING, "the:Right")

    def test_one_that_cannot_be_reached_failed_even_if_the_caller_is_known(self):
        found = checks(endpoint=UNREACHED, folders=())
        assert found["connection"].level is Level.OK
        assert_found(found["endpoint"], Level.FAILED, "It cannot be looked at", "no network.")

    def test_one_that_does_not_exist_failed(self):
        found = checks(endpoint=None, folders=())
        assert list(found) == ["connection", "endpoint", "boto3"]
        assert_found(found["endpoint"], Level.FAILED, "'ep' does not exist")

    @pytest.mark.parametrize(
        ("description", "level", "text"),
        [
            (endpoint(), Level.OK, "InService."),
            (endpoint(FailureReason="no host"), Level.WARNING, "a change of it failed: InService: no host."),
            (endpoint("Updating"), Level.WARNING, "It takes requests, but is Updating."),
            (endpoint("RollingBack", FailureReason="alarm"), Level.WARNING, "RollingBack: alarm."),
            (endpoint("Resting"), Level.WARNING, "It takes requests, but is Resting."),
            (endpoint("Creating"), Level.FAILED, "it is Creating. Wait until it is in service."),
            (endpoint("Failed", FailureReason="no image"), Level.FAILED, "it is Failed: no image."),
            (endpoint("Deleting"), Level.FAILED, "it is Deleting."),
        ],
    )
    def test_its_status_says_whether_it_takes_requests(self, description, level, text):
        found = checks(endpoint=description)
        assert_found(found["endpoint"], level, text)
        assert found["endpoint"].text.endswith(text)
        assert ("capacity" in found) is (level is not Level.FAILED)

    def test_a_real_time_one_failed_and_is_not_judged_by_what_it_need_not_have(self):
        found = checks(endpoint=endpoint(asynchronous=False), folders=())
        assert list(found) == ["connection", "endpoint", "asynchronous", "boto3"]
        assert_found(found["asynchronous"], Level.FAILED, "no AsyncInferenceConfig")

    def test_paths_that_are_not_set_are_warnings(self):
        found = checks(endpoint=endpoint(output={}), folders=())
        assert_found(found["output path"], Level.WARNING, "S3OutputPath")
        assert_found(found["failure path"], Level.WARNING, "S3FailurePath", "no trace")


class TestCapacity:
    @pytest.mark.parametrize(
        ("counts", "state", "level", "text"),
        [
            ((1, 1), ScalingState(), Level.OK, "1 of 1 instance in service. The count is fixed"),
            (
                (2, 2),
                scaling(),
                Level.OK,
                "2 of 2 instances in service. It scales between 0 and 3. One request",
            ),
            ((1, 1), scaling(least=1, wakes=False), Level.OK, "It scales between 1 and 3."),
            (
                (1, 1),
                scaling(wakes=False),
                Level.WARNING,
                "Once it has scaled to 0, one request does not wake",
            ),
            (
                (1, 1),
                DENIED,
                Level.WARNING,
                "What scales it cannot be looked at: no. The right it takes is the:",
            ),
            ((0, 0), DENIED, Level.WARNING, "What scales it cannot be looked at"),
            ((0, 2), ScalingState(), Level.WARNING, "2 instances on the way"),
            ((0, 0), ScalingState(), Level.FAILED, "nothing scales the endpoint"),
            ((0, 0), scaling(), Level.OK, "one request wakes it (up to 3)"),
            ((0, 0), scaling(least=2, wakes=False), Level.WARNING, "its scaling keeps 2"),
            ((0, 0), scaling(wakes=False), Level.FAILED, "one request does not wake the endpoint"),
            ((0, 0), scaling(most=0), Level.FAILED, "one request does not wake the endpoint"),
        ],
    )
    def test_there_are_instances_or_something_that_wakes_it(self, counts, state, level, text):
        current, desired = counts
        found = checks(endpoint=endpoint(current=current, desired=desired), scaling=state)
        assert_found(found["capacity"], level, text)

    def test_scheduled_actions_bring_instances_but_not_for_a_request(self):
        morning = {"ScalableTargetAction": {"MinCapacity": 1}}
        evening = {"ScalableTargetAction": {"MinCapacity": 0}}
        asleep = endpoint(current=0, desired=0)
        for actions, level in [((evening, morning), Level.WARNING), ((evening, {}), Level.FAILED)]:
            state = scaling(wakes=False, scheduled_actions=actions)
            assert_found(checks(endpoint=asleep, scaling=state)["capacity"], level, "step scaling policy")

    def test_a_description_without_variants_has_no_instance(self):
        described = endpoint() | {"ProductionVariants": None}
        assert checks(endpoint=described)["capacity"].level is Level.FAILED


class TestFolders:
    def test_without_its_bucket_nothing_else_is_said_of_a_folder(self):
        found = checks(folders=(folder(region=None),))
        assert_found(found["output bucket"], Level.FAILED, "s3://b/out does not exist")
        assert not {"output listing", "output reading"} & found.keys()

    def test_a_bucket_elsewhere_is_a_warning(self):
        found = checks(folders=(folder(region="us-east-1"),))
        assert_found(found["output bucket"], Level.WARNING, "is in us-east-1, the endpoint in eu-west-1")
        assert found["output listing"].level is Level.OK

    def test_a_region_that_cannot_be_looked_at_hides_nothing(self):
        found = checks(folders=(folder(region=DENIED),))
        assert_found(found["output bucket"], Level.WARNING, "the:Right")
        assert found["output reading"].level is Level.OK

    @pytest.mark.parametrize(
        ("seen", "level", "text"),
        [
            ("out/1.out", Level.OK, "allowed"),
            (DENIED, Level.FAILED, "every wait fails: no. The right it takes is the:Right."),
            (UNREACHED, Level.WARNING, "cannot be tried: no network."),
        ],
    )
    def test_listing_is_needed(self, seen, level, text):
        found = checks(folders=(folder(sample=seen, encrypted=None),))
        assert_found(found["output listing"], level, text)
        assert_found(found["output reading"], Level.WARNING, "without listing")

    @pytest.mark.parametrize(
        ("seen", "sample", "level", "text"),
        [
            (False, None, Level.OK, "The folder is empty; S3 did not refuse"),
            (False, "out/1.out", Level.OK, "tried on out/1.out"),
            (True, "out/1.out", Level.OK, "tried on out/1.out"),
            (DENIED, "out/1.out", Level.FAILED, "the:Right"),
            (UNREACHED, "out/1.out", Level.WARNING, "cannot be tried: no network."),
        ],
    )
    def test_reading_is_needed(self, seen, sample, level, text):
        found = checks(folders=(folder(sample=sample, encrypted=seen),))
        assert_found(found["output reading"], level, text)


class TestKms:
    @pytest.mark.parametrize(
        ("encrypted", "level", "text"),
        [
            (True, Level.OK, "an encrypted object could be read"),
            (False, Level.WARNING, "kms:Decrypt"),
            (DENIED, Level.WARNING, "kms:Decrypt"),
        ],
    )
    def test_a_key_is_a_reminder_until_something_encrypted_was_read(self, encrypted, level, text):
        keyed = endpoint(output={"S3OutputPath": "s3://b/out", "KmsKeyId": KEY})
        found = checks(endpoint=keyed, folders=(folder(encrypted=encrypted),))
        assert_found(found["kms"], level, KEY, text)


class TestBoto3:
    def test_members_that_it_cannot_send_are_named_with_the_version_that_can(self):
        found = checks(members={"Filename"})["boto3"]
        assert_found(
            found, Level.WARNING, "1.2.3 cannot send Body (1.43.29), S3OutputPathExtension (1.42.54);"
        )

    def test_members_that_cannot_be_looked_at_are_a_warning(self):
        assert_found(checks(members=UNREACHED)["boto3"], Level.WARNING, "no network.")
