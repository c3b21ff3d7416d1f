"""
A walk through the life of an asynchronous endpoint with the AWS CLI and boto3, against the emulator.

    python tests/walk.py

It starts ``python -m airflow_async_sm.emulator`` with time sixty times as fast, walks, and prints one line
for each step: what was observed, and how long it took in real seconds. The exit code is 0 if everything was
as in the service, 1 if something was not, and 2 if the walk could not begin.

It takes about a minute and needs the package with its ``emulator`` extra, and an AWS CLI that knows inline
payloads: the one that the variable AIRFLOW_ASYNC_SM_AWS_CLI names, or ``aws`` on PATH.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import tarfile
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

if __name__ == "__main__":
    # A program that is run by its path sees the modules beside it, and not the folder above.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.cli_scaling import let_scale, stop_scaling
from tests.outside import AwsCli, NotAsExpected, NotReady, emulator, eventually, expect, find_aws_cli

NAME = "walk"
VARIANT = "AllTraffic"
BUCKET = "walk-bucket"
REGION = "us-east-1"
ROLE = "arn:aws:iam::123456789012:role/sagemaker"
IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3"
ON_THE_WAY = ("Creating", "Updating", "RollingBack", "Deleting")
# In seconds of the service. They are short, but long enough to be seen where a minute passes in a second.
WAITS = {
    "creation_seconds": 20,
    "update_seconds": 20,
    "rollback_seconds": 20,
    "deletion_seconds": 20,
    "instance_start_seconds": 60,
}
# Payloads are JSON, so that every client sends them unchanged.
SCRIPT = """
import json
import time

def model_fn(model_dir):
    return "loaded"

def input_fn(body, content_type):
    order = json.loads(body)
    if "refuse" in order:
        raise ValueError(order["refuse"])
    return order

def predict_fn(order, model):
    time.sleep(order.get("sleep", 0))
    return order

def output_fn(order, accept):
    return json.dumps({"answer": order["ask"]}), "application/json"
"""
BROKEN = "raise RuntimeError('this model cannot be loaded')\n"


class Walk:
    """
    The steps, in order. Each makes calls, looks at what comes of them, and returns a sentence about it.

    :param aws: The AWS CLI.
    :param url: The emulator's address.
    :param folder: For files that the CLI reads and writes.
    :param speed: How many seconds of the service pass in a real one.
    """

    def __init__(self, aws, url, folder, *, speed):
        self.aws, self._url, self._folder, self._speed = aws, url, folder, speed
        session = boto3.Session(
            aws_access_key_id="testing", aws_secret_access_key="testing", region_name=REGION
        )
        config = Config(proxies={}, retries={"total_max_attempts": 1})
        make = {"endpoint_url": url, "config": config}
        self.s3 = session.client("s3", **make)
        self.control = session.client("sagemaker", **make)
        self.runtime = session.client("sagemaker-runtime", **make)

    def steps(self):
        return [
            ("create", self.create),
            ("invoke inline", self.invoke_inline),
            ("invoke from S3", self.invoke_from_s3),
            ("fail", self.fail),
            ("expire", self.expire),
            ("scale to zero and wake", self.scale_to_zero_and_wake),
            ("update", self.update),
            ("roll back", self.roll_back),
            ("delete", self.delete),
        ]

    def create(self):
        self.aws("s3", "mb", f"s3://{BUCKET}")
        self._configure("first", SCRIPT)
        seen = self._watch("create-endpoint", "--endpoint-config-name", "first")
        expect(seen == ["Creating", "InService"], f"Creating and then InService, not {seen}")
        self.aws("sagemaker", "wait", "endpoint-in-service", "--endpoint-name", NAME, timeout=25)
        described = self._described()
        variant = described["ProductionVariants"][0]
        expect(variant["CurrentInstanceCount"] == 1, "one instance")
        output = described["AsyncInferenceConfig"]["OutputConfig"]
        expect(output["S3FailurePath"] == f"s3://{BUCKET}/first/failures", "the failure path of the request")
        return f"{' -> '.join(seen)}, 1 instance; the CLI's waiter agrees"

    def invoke_inline(self):
        by_cli = self._invoke_by_cli({"ask": "inline by CLI"}, "--inference-id", "walk-1")
        expect(by_cli["InferenceId"] == "walk-1", "the inference id of the request")
        by_boto3 = self.runtime.invoke_endpoint_async(
            EndpointName=NAME, Body=b'{"ask": "inline by boto3"}', ContentType="application/json"
        )
        status = by_boto3["ResponseMetadata"]["HTTPStatusCode"]
        expect(status == 202, f"status 202, not {status}")
        self._expect_answer(by_cli, "inline by CLI")
        self._expect_answer(by_boto3, "inline by boto3")
        return f"202; answers of both clients in {by_cli['OutputLocation'].rpartition('/')[0]}"

    def invoke_from_s3(self):
        source = self._file("input.json", {"ask": "from S3"})
        self.aws("s3", "cp", str(source), f"s3://{BUCKET}/in/input.json")
        location = ("--input-location", f"s3://{BUCKET}/in/input.json", "--content-type", "application/json")
        placed = ("--s3-output-path-extension", "chosen", "--filename", "answer.json")
        response = self._cli_invocation(*location, *placed)
        expect(
            response["OutputLocation"].endswith("/chosen/answer.json"),
            f"the chosen place, not {response['OutputLocation']}",
        )
        self._expect_answer(response, "from S3")
        # The same input again is another request with an object of its own.
        again = self._cli_invocation(*location)
        self._expect_answer(again, "from S3")
        target = self._folder / "copied.json"
        self.aws("s3", "cp", again["OutputLocation"], str(target))
        expect(json.loads(target.read_text()) == {"answer": "from S3"}, "the answer, copied by the CLI")
        return f"{response['OutputLocation']}, copied by the CLI"

    def fail(self):
        response = self._invoke_by_cli({"refuse": "no such thing"})
        text = eventually(lambda: self._read(response["FailureLocation"]), "a failure object").decode()
        expect("no such thing" in text, f"the model's own words, not {text}")
        expect(self._read(response["OutputLocation"]) is None, "no output object beside the failure")
        missing = self._cli_invocation("--input-location", f"s3://{BUCKET}/in/absent.json")
        eventually(lambda: self._read(missing["FailureLocation"]), "a failure object for a missing input")
        refused = self._refused_by_cli("--body", "fileb:///dev/null", "--filename", "a.b.c")
        expect("ValidationError" in refused, f"a ValidationError, not {refused}")
        return f"the model's error: {text}; a missing input fails too; a bad file name is refused at once"

    def expire(self):
        def ask(order, **more):
            body = json.dumps(order).encode()
            return self.runtime.invoke_endpoint_async(
                EndpointName=NAME, Body=body, ContentType="application/json", **more
            )

        busy = ask({"ask": "slow", "sleep": 120 / self._speed})
        doomed = ask({"ask": "too late"}, RequestTTLSeconds=60)
        patient = ask({"ask": "in time"})
        self._expect_answer(busy, "slow")
        self._expect_answer(patient, "in time")
        expect(self._read(doomed["OutputLocation"]) is None, "no output of an expired request")
        record = next(r for r in self._log() if r["output_location"] == doomed["OutputLocation"])
        expect(record["state"] == "expired", f"an expired request, not {record['state']}")
        expired = eventually(lambda: self._metric("ExpiredRequests"), "a datapoint of ExpiredRequests")
        return f"behind a busy model, after 60 s: nothing in S3, ExpiredRequests = {expired:g}"

    def scale_to_zero_and_wake(self):
        let_scale(self.aws, NAME, VARIANT)
        eventually(lambda: self._instances() == 0, "no instances without requests", within=120)
        expect(self._described()["EndpointStatus"] == "InService", "InService without instances")
        began = time.monotonic()
        response = self._invoke_by_cli({"ask": "wake up"})
        self._expect_answer(response, "wake up", within=120)
        woken = (time.monotonic() - began) * self._speed
        listed = self.aws(
            "application-autoscaling", "describe-scaling-activities", "--service-namespace", "sagemaker"
        )
        activities = [activity["StatusCode"] for activity in listed["ScalingActivities"]]
        expect("Successful" in activities, f"successful scaling activities, not {activities}")
        stop_scaling(self.aws, NAME, VARIANT)
        return (
            f"0 instances while InService, answered after {woken:.0f} s of the service's time; "
            f"{len(activities)} scaling activities"
        )

    def update(self):
        self._configure("second", SCRIPT)
        seen = self._watch("update-endpoint", "--endpoint-config-name", "second")
        expect(seen == ["Updating", "InService"], f"Updating and then InService, not {seen}")
        expect(self._described()["EndpointConfigName"] == "second", "the new configuration")
        response = self._invoke_by_cli({"ask": "updated"})
        expect("/second/out/" in response["OutputLocation"], "the output path of the new configuration")
        self._expect_answer(response, "updated")
        return f"{' -> '.join(seen)} on configuration second"

    def roll_back(self):
        self._configure("broken", BROKEN)
        seen = self._watch("update-endpoint", "--endpoint-config-name", "broken")
        expect(seen == ["Updating", "RollingBack", "InService"], f"an update that is rolled back, not {seen}")
        expect(self._described()["EndpointConfigName"] == "second", "the configuration from before")
        self._expect_answer(self._invoke_by_cli({"ask": "as before"}), "as before")
        return f"{' -> '.join(seen)} on configuration second; the model could not be loaded"

    def delete(self):
        seen = self._watch("delete-endpoint")
        expect(seen == ["Deleting", "gone"], f"Deleting and then gone, not {seen}")
        self.aws("sagemaker", "wait", "endpoint-deleted", "--endpoint-name", NAME, timeout=25)
        for name in ("first", "second", "broken"):
            self.aws("sagemaker", "delete-endpoint-config", "--endpoint-config-name", name)
            self.aws("sagemaker", "delete-model", "--model-name", name)
        refused = self._refused_by_cli("--body", "fileb:///dev/null")
        expect("not found" in refused, f"an unknown endpoint, not {refused}")
        return f"{' -> '.join(seen)}; the CLI's waiter agrees; a request is refused"

    def _invoke_by_cli(self, order, *more):
        payload = self._file("payload.json", order)
        return self._cli_invocation(
            "--body", f"fileb://{payload}", "--content-type", "application/json", *more
        )

    def _cli_invocation(self, *more):
        return self.aws("sagemaker-runtime", "invoke-endpoint-async", "--endpoint-name", NAME, *more)

    def _refused_by_cli(self, *more):
        call = ("sagemaker-runtime", "invoke-endpoint-async", "--endpoint-name", NAME, *more)
        return self.aws.refused(*call)

    def _file(self, name, content):
        path = self._folder / name
        path.write_text(json.dumps(content))
        return path

    def _configure(self, name, script):
        """Create a model and a configuration with the CLI, both of that name."""
        archive = self._folder / f"{name}.tar.gz"
        with tarfile.open(archive, "w:gz") as tar:
            info = tarfile.TarInfo("code/inference.py")
            info.size = len(script.encode())
            tar.addfile(info, io.BytesIO(script.encode()))
        data = f"s3://{BUCKET}/models/{name}.tar.gz"
        self.aws("s3", "cp", str(archive), data)
        container = json.dumps({"Image": IMAGE, "ModelDataUrl": data})
        model = ("--model-name", name, "--execution-role-arn", ROLE, "--primary-container", container)
        self.aws("sagemaker", "create-model", *model)
        variant = {
            "VariantName": VARIANT,
            "ModelName": name,
            "InstanceType": "ml.m5.large",
            "InitialInstanceCount": 1,
            "ContainerStartupHealthCheckTimeoutInSeconds": 3600,
        }
        paths = {
            "S3OutputPath": f"s3://{BUCKET}/{name}/out",
            "S3FailurePath": f"s3://{BUCKET}/{name}/failures",
        }
        config = {"OutputConfig": paths, "ClientConfig": {"MaxConcurrentInvocationsPerInstance": 1}}
        self.aws(
            *("sagemaker", "create-endpoint-config", "--endpoint-config-name", name),
            *("--production-variants", json.dumps([variant])),
            *("--async-inference-config", json.dumps(config)),
        )

    def _watch(self, call, *arguments):
        """Call with the CLI what changes the endpoint, and return every status from then to the end."""
        seen = []
        with ThreadPoolExecutor(1) as pool:
            calling = pool.submit(self.aws, "sagemaker", call, "--endpoint-name", NAME, *arguments)

            def look():
                called = calling.done()
                status = self._status()
                if status not in seen[-1:]:
                    seen.append(status)
                return called and status not in ON_THE_WAY

            eventually(look, "an endpoint that stays as it is", pause=0.01)
            calling.result()
        # The first is the one from before the call: a CLI takes its time to start.
        return seen[1:]

    def _status(self):
        try:
            return self._described()["EndpointStatus"]
        except ClientError as error:
            expect(error.response["Error"]["Code"] == "ValidationException", str(error))
            return "gone"

    def _described(self):
        return self.control.describe_endpoint(EndpointName=NAME)

    def _instances(self):
        return self._described()["ProductionVariants"][0]["CurrentInstanceCount"]

    def _read(self, location):
        place = urlsplit(location)
        try:
            return self.s3.get_object(Bucket=place.netloc, Key=place.path[1:])["Body"].read()
        except self.s3.exceptions.NoSuchKey:
            return None

    def _expect_answer(self, response, answer, *, within=60.0):
        location = response["OutputLocation"]
        body = eventually(lambda: self._read(location), f"an object at {location}", within=within)
        expect(json.loads(body) == {"answer": answer}, f"the answer to {answer!r}, not {body!r}")

    def _metric(self, name):
        found = self.aws(
            *("cloudwatch", "get-metric-statistics", "--namespace", "AWS/SageMaker", "--metric-name", name),
            *("--dimensions", f"Name=EndpointName,Value={NAME}", f"Name=VariantName,Value={VARIANT}"),
            *("--statistics", "Sum", "--period", "3600"),
            # Time that is sped up has run ahead of the calendar.
            *("--start-time", f"{time.time() - 3600:.0f}", "--end-time", f"{time.time() + 172_800:.0f}"),
        )
        return sum(point["Sum"] for point in found["Datapoints"])

    def _log(self):
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(f"{self._url}/_emulator/requests", timeout=30) as answer:
            return json.load(answer)


def walk(*, speed):
    """Walk all steps, and return the exit code."""
    with tempfile.TemporaryDirectory(prefix="walk-") as path:
        folder = Path(path)
        try:
            aws_cli = find_aws_cli(os.environ)
            settings = folder / "settings.json"
            settings.write_text(json.dumps({"behaviour": WAITS}))
            with emulator(folder, "--speed", f"{speed:g}", "--settings", str(settings)) as (url, _):
                print(f"{url}, time {speed:g} times as fast", flush=True)
                for name, step in Walk(AwsCli(aws_cli, url), url, folder, speed=speed).steps():
                    began = time.monotonic()
                    print(f"{name:<24}", end="", flush=True)
                    observed = step()
                    print(f"{time.monotonic() - began:6.1f} s  {observed}", flush=True)
        except NotReady as reason:
            print(f"The walk cannot begin: {reason}", file=sys.stderr)
            return 2
        except (NotAsExpected, ClientError) as error:
            print(f"  FAILED: expected {error}" if isinstance(error, NotAsExpected) else f"  FAILED: {error}")
            return 1
    print("Everything was as in the service.")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--speed", type=float, default=60.0, help="how fast time passes (default: 60)")
    sys.exit(walk(speed=parser.parse_args().speed))
