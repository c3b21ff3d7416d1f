"""Short words for tests that deploy and delete endpoints with the operators."""

from __future__ import annotations

import uuid

from airflow_async_sm.operators.delete import SageMakerAsyncDeleteOperator
from airflow_async_sm.operators.deploy import SageMakerAsyncDeployOperator
from tests.world import BUCKET, ROLE

LOOKING = ("Describe", "List", "Get")


class Deployments:
    """Deploys and deletes one endpoint with operators. ``run`` runs an operator to its end."""

    def __init__(self, world, run):
        self.world = world
        self.run = run
        self.name = f"op-{uuid.uuid4().hex[:12]}"

    def arguments(self, **changes):
        arguments = {
            "endpoint_name": self.name,
            "image": "program",
            "execution_role_arn": ROLE,
            "output_path": f"s3://{BUCKET}/answers",
            "instance_type": "ml.m5.large",
        }
        return {name: value for name, value in (arguments | changes).items() if value is not None}

    def deploy(self, **changes):
        return self.run(SageMakerAsyncDeployOperator, **self.arguments(**changes))

    def delete(self, **options):
        return self.run(SageMakerAsyncDeleteOperator, endpoint_name=self.name, **options)

    def described(self):
        return self.world.control.describe_endpoint(EndpointName=self.name)

    def exists(self):
        listed = self.world.control.list_endpoints(NameContains=self.name)["Endpoints"]
        return [endpoint["EndpointName"] for endpoint in listed] == [self.name]

    def parts(self):
        """Return the names of all configurations and models with the endpoint's name in theirs."""
        configs = self.world.control.list_endpoint_configs(NameContains=self.name)["EndpointConfigs"]
        models = self.world.control.list_models(NameContains=self.name)["Models"]
        return (
            sorted(config["EndpointConfigName"] for config in configs),
            sorted(model["ModelName"] for model in models),
        )

    def scaling(self):
        """Return how many scalable targets, policies, scheduled actions and alarms the endpoint has."""
        autoscaling, cloudwatch = map(self.world.emulator.client, ("application-autoscaling", "cloudwatch"))
        resource = f"endpoint/{self.name}/variant/AllTraffic"
        about = {"ServiceNamespace": "sagemaker", "ResourceId": resource}
        targets = autoscaling.describe_scalable_targets(ServiceNamespace="sagemaker", ResourceIds=[resource])
        alarms = cloudwatch.describe_alarms()["MetricAlarms"]
        return (
            len(targets["ScalableTargets"]),
            len(autoscaling.describe_scaling_policies(**about)["ScalingPolicies"]),
            len(autoscaling.describe_scheduled_actions(**about)["ScheduledActions"]),
            sum(self.name in alarm["AlarmName"] for alarm in alarms),
        )

    def changes(self):
        """Return how often each call was made that changes something, over all endpoints."""
        return {
            f"{service}:{operation}": count
            for service, operations in self.world.emulator.counters()["calls"].items()
            for operation, count in operations.items()
            if not operation.startswith(LOOKING)
        }
