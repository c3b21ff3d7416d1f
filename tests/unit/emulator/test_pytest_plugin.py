"""The fixtures for users' test suites, in runs of pytest as users have them."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[3]
PLUGIN = "airflow_async_sm.emulator.pytest_plugin"
# What the inner tests share: an endpoint, and a model for those who map an image to it.
HELP = """
    ROLE = "arn:aws:iam::123456789012:role/sagemaker"
    VARIANT = {
        "VariantName": "v", "ModelName": "m", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1
    }

    def shout(body, headers):
        return body.upper()

    def deploy(control, image="shouting"):
        control.create_model(ModelName="m", ExecutionRoleArn=ROLE, PrimaryContainer={"Image": image})
        control.create_endpoint_config(
            EndpointConfigName="c",
            ProductionVariants=[VARIANT],
            AsyncInferenceConfig={"OutputConfig": {"S3OutputPath": "s3://bucket/out"}},
        )
        control.create_endpoint(EndpointName="e", EndpointConfigName="c")

    def status(control):
        return control.describe_endpoint(EndpointName="e")["EndpointStatus"]

    def wait(control):
        slow = {"Delay": 0.05, "MaxAttempts": 200}
        control.get_waiter("endpoint_in_service").wait(EndpointName="e", WaiterConfig=slow)

    def answer(s3, output_location):
        bucket, _, key = output_location.removeprefix("s3://").partition("/")
        s3.get_waiter("object_exists").wait(Bucket=bucket, Key=key, WaiterConfig={"Delay": 0.05})
        return s3.get_object(Bucket=bucket, Key=key)["Body"].read()
"""


@pytest.fixture
def suite(pytester, monkeypatch):
    """A user's test suite, with no other plugin than ours, and tests in the order of their files."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makepyfile(help=HELP)
    return pytester


def run(suite, **outcomes):
    result = suite.runpytest_subprocess("-p", PLUGIN, "-p", "no:cacheprovider", timeout=120)
    result.assert_outcomes(**outcomes)
    return result


def test_where_it_is_installed_and_not_used_it_loads_and_changes_nothing(pytester, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    # The package as an installation shows it to pytest.
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
    assert declared == {"airflow_async_sm": PLUGIN}
    about = pytester.mkdir("installed-1.0.dist-info")
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: installed\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[pytest11]\nairflow_async_sm = {PLUGIN}\n")
    pytester.makeconftest(
        """
        import os, sys

        before = dict(os.environ)

        def pytest_sessionfinish(session):
            heavy = ("airflow", "boto3", "botocore", "moto", "sklearn", "werkzeug", "yaml")
            print("\\nplugin:", session.config.pluginmanager.has_plugin("airflow_async_sm"))
            print("heavy:", [name for name in heavy if name in sys.modules])
            changed = {name for name, _ in before.items() ^ os.environ.items()}
            print("changed:", sorted(changed - {"PYTEST_CURRENT_TEST"}))
        """
    )
    pytester.makepyfile(
        """
        import threading

        def test_something_else():
            assert threading.active_count() == 1
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-s", timeout=120)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["plugin: True", "heavy: ?]", "changed: ?]"])


def test_tests_share_an_emulator_and_find_it_empty(suite):
    suite.makepyfile(
        """
        import boto3
        import moto
        import pytest
        from airflow_async_sm.emulator.settings.faults import Throttled
        from help import *

        @pytest.fixture(scope="session")
        def sagemaker_async_settings(sagemaker_async_settings):
            return {**sagemaker_async_settings, "images": {"shouting": shout}}

        seen = []

        def test_one_uses_all_there_is(sagemaker_async_emulator):
            emulator = sagemaker_async_emulator
            seen.append(emulator)
            s3, control = emulator.client("s3"), emulator.client("sagemaker")
            s3.create_bucket(Bucket="bucket")
            deploy(control)
            wait(control)
            runtime = emulator.client("sagemaker-runtime")
            accepted = runtime.invoke_endpoint_async(EndpointName="e", Body=b"hello")
            assert answer(s3, accepted["OutputLocation"]) == b"HELLO"
            emulator.knobs.change(behaviour={"creation_seconds": 99})
            emulator.faults.add(Throttled(operation="ListBuckets"))

        def test_one_uses_moto_in_between():
            with moto.mock_aws():
                s3 = boto3.client("s3", "us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
                assert s3.list_buckets()["Buckets"] == []
                s3.create_bucket(Bucket="mocked")

        def test_one_finds_nothing(sagemaker_async_emulator):
            emulator = sagemaker_async_emulator
            assert seen == [emulator]
            assert emulator.requests() == []
            assert not emulator.faults.all()
            assert emulator.client("s3").list_buckets()["Buckets"] == []
            control = emulator.client("sagemaker")
            assert control.list_endpoints()["Endpoints"] == []
            assert control.list_endpoint_configs()["EndpointConfigs"] == []
            assert control.list_models()["Models"] == []
            assert emulator.knobs.behaviour.creation_seconds == 0.1
        """
    )
    run(suite, passed=3)


def test_unmodified_code_reaches_the_emulator_and_the_environment_is_restored(suite, monkeypatch):
    # Each of these alone would lead a client elsewhere, or to nothing.
    elsewhere = suite.makefile(
        ".ini", config="[default]\nretry_mode = unheard-of\n[profile elsewhere]\nretry_mode = unheard-of\n"
    )
    for name, value in {
        "AWS_CONFIG_FILE": str(elsewhere),
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
        "AWS_PROFILE": "elsewhere",
        "AWS_DEFAULT_PROFILE": "elsewhere",
        "AWS_SESSION_TOKEN": "token",
        "AWS_SECURITY_TOKEN": "token",
        "AWS_REGION": "eu-west-1",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
        "NO_PROXY": "example.org",
    }.items():
        monkeypatch.setenv(name, value)
    suite.makepyfile(
        """
        import json
        import os

        import boto3
        import pytest

        def left():
            return {n: v for n, v in os.environ.items() if n != "PYTEST_CURRENT_TEST"}

        before = left()
        earlier = boto3.DEFAULT_SESSION = object()

        def test_inside(sagemaker_async_environment, sagemaker_async_emulator, monkeypatch):
            assert sagemaker_async_environment is sagemaker_async_emulator
            monkeypatch.undo()
            boto3.client("s3").create_bucket(Bucket="bucket")
            buckets = sagemaker_async_emulator.client("s3").list_buckets()["Buckets"]
            assert [bucket["Name"] for bucket in buckets] == ["bucket"]
            for service, call in [("sagemaker", "list_endpoints"), ("sns", "list_topics")]:
                getattr(boto3.client(service), call)()
            assert boto3.DEFAULT_SESSION.get_credentials().token is None
            connection = json.loads(os.environ["AIRFLOW_CONN_AWS_DEFAULT"])
            assert connection["extra"] == {
                "region_name": "us-east-1", "endpoint_url": sagemaker_async_emulator.url
            }
            assert os.environ["NO_PROXY"] == os.environ["no_proxy"] == "example.org,127.0.0.1"

        def test_afterwards():
            assert left() == before
            assert boto3.DEFAULT_SESSION is earlier

        @pytest.mark.usefixtures("sagemaker_async_emulator")
        def test_the_emulator_alone_changes_nothing():
            assert left() == before
            assert boto3.DEFAULT_SESSION is earlier
        """
    )
    run(suite, passed=3)


def test_settings_can_be_overridden_for_all_for_a_module_and_for_a_test(suite):
    suite.makeconftest(
        """
        import pytest
        from help import shout

        @pytest.fixture(scope="session")
        def sagemaker_async_settings(sagemaker_async_settings):
            return {**sagemaker_async_settings, "images": {"shouting": shout}}
        """
    )
    suite.makepyfile(
        test_a_all="""
        from help import *

        def test_image(sagemaker_async_emulator):
            deploy(sagemaker_async_emulator.client("sagemaker"))
            wait(sagemaker_async_emulator.client("sagemaker"))
        """,
        test_b_stepped="""
        import pytest
        from airflow_async_sm.emulator import RequestState, SteppedClock
        from help import *

        @pytest.fixture(scope="module")
        def clock():
            return SteppedClock()

        @pytest.fixture(scope="module")
        def sagemaker_async_settings(sagemaker_async_settings, clock):
            return {**sagemaker_async_settings, "clock": clock}

        @pytest.mark.parametrize("again", [False, True])
        def test_time_stands_until_it_is_moved(sagemaker_async_emulator, clock, again):
            control = sagemaker_async_emulator.client("sagemaker")
            sagemaker_async_emulator.client("s3").create_bucket(Bucket="bucket")
            deploy(control)
            clock.settle()
            assert status(control) == "Creating"
            clock.advance(0.1)
            assert status(control) == "InService"
            runtime = sagemaker_async_emulator.client("sagemaker-runtime")
            runtime.invoke_endpoint_async(EndpointName="e", Body=b"hello")
            clock.settle()
            (request,) = sagemaker_async_emulator.requests()
            assert request.state is RequestState.QUEUED
            clock.advance(1)
            (request,) = sagemaker_async_emulator.requests()
            assert request.state is RequestState.SUCCEEDED
        """,
        test_c_one="""
        import pytest
        from airflow_async_sm.emulator import Behaviour
        from airflow_async_sm.emulator.settings.faults import Throttled

        @pytest.mark.parametrize(
            "sagemaker_async_settings",
            [{"behaviour": Behaviour(endpoint_quota=1)}, {"faults": [Throttled(operation="ListEndpoints")]}],
        )
        def test_settings_in_the_test(sagemaker_async_emulator, sagemaker_async_settings):
            emulator = sagemaker_async_emulator
            quota = 1 if "behaviour" in sagemaker_async_settings else 1000
            assert emulator.knobs.behaviour.endpoint_quota == quota
            assert len(emulator.faults.all()) == len(sagemaker_async_settings.get("faults", ()))

        def test_back_to_the_settings_of_all(sagemaker_async_emulator, sagemaker_async_settings):
            assert list(sagemaker_async_settings) == ["behaviour", "images"]
            assert sagemaker_async_emulator.knobs.behaviour.creation_seconds == 0.1
            assert not sagemaker_async_emulator.faults.all()
        """,
    )
    run(suite, passed=6)


def test_an_emulator_that_a_test_stopped_or_broke_is_replaced(suite):
    suite.makepyfile(
        """
        seen = []

        def test_stops_it(sagemaker_async_emulator):
            seen.append(sagemaker_async_emulator)
            sagemaker_async_emulator.stop()

        def test_breaks_it(sagemaker_async_emulator):
            assert sagemaker_async_emulator not in seen
            seen.append(sagemaker_async_emulator)
            sagemaker_async_emulator.client("s3").create_bucket(Bucket="left")
            sagemaker_async_emulator.reset = lambda: 1 / 0

        def test_goes_on(sagemaker_async_emulator):
            assert sagemaker_async_emulator not in seen
            assert sagemaker_async_emulator.client("s3").list_buckets()["Buckets"] == []
        """
    )
    run(suite, passed=3, errors=1).stdout.fnmatch_lines(["*ERROR at teardown of test_breaks_it*"])


def test_without_the_extra_it_says_what_to_install(suite):
    suite.makeconftest("import sys; sys.modules['moto'] = None")
    suite.makepyfile(
        """
        def test_with(sagemaker_async_environment):
            pass

        def test_without():
            pass
        """
    )
    result = run(suite, passed=1, errors=1)
    result.stdout.fnmatch_lines(
        ["The emulator cannot be loaded: *moto*. *: pip install 'airflow-async-sm?emulator?'"]
    )
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*pytest_plugin.py:*")


def test_an_operator_of_a_dag_runs_against_the_emulator(suite):
    suite.makepyfile(
        """
        import boto3
        import pytest
        from airflow_async_sm.operators.invoke import SageMakerAsyncInvokeOperator
        from help import *

        @pytest.fixture(scope="session")
        def sagemaker_async_settings(sagemaker_async_settings):
            return {**sagemaker_async_settings, "images": {"shouting": shout}}

        @pytest.fixture(params=["aws_default", None])
        def connection(request):
            return request.param

        def test_task(sagemaker_async_environment, connection):
            s3 = boto3.client("s3")
            s3.create_bucket(Bucket="bucket")
            deploy(boto3.client("sagemaker"))
            wait(boto3.client("sagemaker"))
            task = SageMakerAsyncInvokeOperator(
                task_id="t", endpoint_name="e", payload="hello", deferrable=False, aws_conn_id=connection
            )
            result = task.execute({})
            assert answer(s3, result["output_location"]) == b"HELLO"
        """
    )
    run(suite, passed=2)
