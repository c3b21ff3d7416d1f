"""
The service's numbers and patterns, each with its unit and its source, and the one check that uses them.

boto3 refuses a value below a minimum, but sends what is too long, too large or of the wrong form to the
service and so spends a round trip, or an endpoint, on a mistake. Every limit here names the place in the
published API model that it is taken from; ``tests/shape/test_limits.py`` compares the two.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

__all__ = [
    "ACCEPT",
    "AUTOSCALING",
    "BODY_BYTES",
    "CLOUDWATCH",
    "CONTENT_TYPE",
    "CONTROL",
    "COOLDOWN",
    "CUSTOM_ATTRIBUTES",
    "DEFAULT_INVOCATION_TIMEOUT",
    "DEFAULT_REQUEST_TTL",
    "ENDPOINT_CONFIG_NAME",
    "ENDPOINT_NAME",
    "ENVIRONMENT_ENTRIES",
    "ENVIRONMENT_KEY",
    "ENVIRONMENT_VALUE",
    "EXECUTION_ROLE_ARN",
    "EXPIRY_SLACK",
    "FILENAME",
    "IMAGE",
    "INFERENCE_ID",
    "INITIAL_INSTANCE_COUNT",
    "INPUT_LOCATION",
    "INPUT_OBJECT_BYTES",
    "INSTANCES",
    "INSTANCE_TYPE",
    "INVOCATION_TIMEOUT",
    "KMS_KEY_ID",
    "MAX_CONCURRENT_INVOCATIONS",
    "MODEL_DATA_URL",
    "MODEL_NAME",
    "REQUEST_TTL",
    "RUNTIME",
    "S3_OUTPUT_PATH_EXTENSION",
    "S3_PATH",
    "SECURITY_GROUPS",
    "SECURITY_GROUP_ID",
    "SUBNETS",
    "SUBNET_ID",
    "TAGS",
    "TAG_KEY",
    "TAG_VALUE",
    "TOPIC_ARN",
    "VARIANT_NAME",
    "InvalidInput",
    "NumberLimit",
    "TextLimit",
]

RUNTIME: Final = "sagemaker-runtime"
CONTROL: Final = "sagemaker"
AUTOSCALING: Final = "application-autoscaling"
CLOUDWATCH: Final = "cloudwatch"


class InvalidInput(ValueError):
    """An argument that the service, or this package, cannot take. The text says which, why and what to do."""


@dataclass(frozen=True, slots=True)
class TextLimit:
    """
    Length and form of a text argument, as the API model states them.

    :param service: The service whose model it is.
    :param shape: Name of the shape in the model, or ``Operation.Member``.
    :param max_length: Most characters.
    :param min_length: Fewest characters.
    :param pattern: Regular expression that the whole text has to match.
    :param form: The pattern in words, for the error.
    """

    service: str
    shape: str
    max_length: int
    min_length: int = 0
    pattern: str = r"(?s).*"
    form: str = "any text"

    def check(self, argument: str, value: object) -> str:
        """Return ``value`` unchanged, or raise :class:`InvalidInput` that names ``argument``."""
        if not isinstance(value, str):
            raise InvalidInput(f"{argument} must be text, not {type(value).__name__}.")
        if len(value) > self.max_length:
            raise InvalidInput(
                f"{argument} has {len(value):,} characters; SageMaker accepts at most {self.max_length:,}. "
                f"It begins {value[:40]!r}: shorten it."
            )
        if len(value) < self.min_length:
            raise InvalidInput(f"{argument} is empty; give {self.form}.")
        if not re.fullmatch(self.pattern, value):
            raise InvalidInput(f"{argument} is {value!r}; SageMaker accepts {self.form}.")
        return value


@dataclass(frozen=True, slots=True)
class NumberLimit:
    """
    Range of a whole number, as the API model states it.

    :param service: The service whose model it is.
    :param shape: Name of the shape in the model, or ``Operation.Member``.
    :param minimum: Smallest value.
    :param maximum: Largest value.
    :param unit: What is counted, for the error.
    """

    service: str
    shape: str
    minimum: int
    maximum: int
    unit: str

    def check(self, argument: str, value: object) -> int:
        """Return ``value`` unchanged, or raise :class:`InvalidInput` that names ``argument``."""
        if isinstance(value, bool) or not isinstance(value, int):
            raise InvalidInput(f"{argument} must be a whole number of {self.unit}, not {value!r}.")
        if not self.minimum <= value <= self.maximum:
            raise InvalidInput(
                f"{argument} is {value:,} {self.unit}; "
                f"SageMaker accepts {self.minimum:,} to {self.maximum:,}."
            )
        return value


_NAME: Final = r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}"
_NAME_FORM: Final = "letters, digits and inner hyphens, for example 'churn-model-2' (a name, not an ARN)"
# The model says "ASCII". These members travel as HTTP headers, where no line break can stand.
_HEADER: Final = r"[\x20-\x7e]*"
_HEADER_FORM: Final = "visible ASCII text on one line"

# InvokeEndpointAsync
ENDPOINT_NAME: Final = TextLimit(CONTROL, "EndpointName", 63, 1, _NAME, _NAME_FORM)
BODY_BYTES: Final = NumberLimit(RUNTIME, "InvokeEndpointAsync.Body", 0, 128_000, "bytes")
# The guide says "up to 1 GB" and does not say which; this is the stricter reading.
INPUT_OBJECT_BYTES: Final = 1_000_000_000
INPUT_LOCATION: Final = TextLimit(
    RUNTIME,
    "InvokeEndpointAsync.InputLocation",
    1024,
    1,
    r"(https|s3)://[\x21-\x2e\x30-\x7e][\x20-\x7e]*",
    "an S3 URI of visible ASCII characters: others break the request's signature",
)
CONTENT_TYPE: Final = TextLimit(RUNTIME, "InvokeEndpointAsync.ContentType", 1024, 0, _HEADER, _HEADER_FORM)
ACCEPT: Final = TextLimit(RUNTIME, "InvokeEndpointAsync.Accept", 1024, 0, _HEADER, _HEADER_FORM)
CUSTOM_ATTRIBUTES: Final = TextLimit(
    RUNTIME, "InvokeEndpointAsync.CustomAttributes", 1024, 0, _HEADER, _HEADER_FORM
)
# The service accepts any printable character. Header-borne text outside ASCII breaks the request's signature.
INFERENCE_ID: Final = TextLimit(
    RUNTIME,
    "InvokeEndpointAsync.InferenceId",
    64,
    1,
    r"[\x21-\x7e][\x20-\x7e]*",
    "visible ASCII text that does not begin with a space",
)
S3_OUTPUT_PATH_EXTENSION: Final = TextLimit(
    RUNTIME,
    "InvokeEndpointAsync.S3OutputPathExtension",
    512,
    1,
    r"(?!s3:|https:)[a-zA-Z0-9!_.*'()/-]+",
    "a folder of letters, digits and !_.*'()/- (no bucket)",
)
FILENAME: Final = TextLimit(
    RUNTIME,
    "InvokeEndpointAsync.Filename",
    32,
    1,
    r"(?!.*\..*\.)[a-zA-Z0-9][a-zA-Z0-9\-_.]*",
    "letters, digits, hyphens, underscores and at most one dot",
)
REQUEST_TTL: Final = NumberLimit(RUNTIME, "InvokeEndpointAsync.RequestTTLSeconds", 60, 21_600, "seconds")
INVOCATION_TIMEOUT: Final = NumberLimit(
    RUNTIME, "InvokeEndpointAsync.InvocationTimeoutSeconds", 1, 3_600, "seconds"
)

# CreateModel, CreateEndpointConfig, CreateEndpoint
MODEL_NAME: Final = TextLimit(
    CONTROL, "ModelName", 63, 1, r"[a-zA-Z0-9]([\-a-zA-Z0-9]*[a-zA-Z0-9])?", _NAME_FORM
)
ENDPOINT_CONFIG_NAME: Final = TextLimit(CONTROL, "EndpointConfigName", 63, 1, _NAME, _NAME_FORM)
IMAGE: Final = TextLimit(CONTROL, "ContainerImage", 255, 1, r"\S+", "a container image address")
EXECUTION_ROLE_ARN: Final = TextLimit(
    CONTROL,
    "RoleArn",
    2048,
    20,
    r"arn:aws[a-z\-]*:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+",
    "the ARN of an IAM role that SageMaker may assume, 'arn:aws:iam::<account>:role/<name>'",
)
MODEL_DATA_URL: Final = TextLimit(CONTROL, "Url", 1024, 0, r"(https|s3)://([^/]+)/?(.*)", "an S3 URI")
S3_PATH: Final = TextLimit(CONTROL, "DestinationS3Uri", 512, 0, r"(https|s3)://([^/])/?(.*)", "an S3 URI")
INSTANCE_TYPE: Final = TextLimit(
    CONTROL,
    "ProductionVariantInstanceType",
    64,
    1,
    r"ml\.[a-z0-9.\-]+",
    "an instance type such as 'ml.m5.large'",
)
INITIAL_INSTANCE_COUNT: Final = NumberLimit(CONTROL, "InitialTaskCount", 1, 1_000_000, "instances")
ENVIRONMENT_KEY: Final = TextLimit(
    CONTROL, "EnvironmentKey", 1024, 1, r"[a-zA-Z_][a-zA-Z0-9_]*", "letters, digits and underscores"
)
ENVIRONMENT_VALUE: Final = TextLimit(CONTROL, "EnvironmentValue", 1024)
ENVIRONMENT_ENTRIES: Final = 100
MAX_CONCURRENT_INVOCATIONS: Final = NumberLimit(
    CONTROL, "MaxConcurrentInvocationsPerInstance", 1, 1_000, "invocations"
)
TOPIC_ARN: Final = TextLimit(
    CONTROL,
    "SnsTopicArn",
    2048,
    0,
    r"arn:aws[a-z\-]*:sns:[a-z0-9\-]*:[0-9]{12}:[a-zA-Z0-9_.\-]+",
    "the ARN of a standard SNS topic",
)
KMS_KEY_ID: Final = TextLimit(
    CONTROL, "KmsKeyId", 2048, 0, r"[a-zA-Z0-9:/_\-]*", "a KMS key id, alias or ARN"
)

SUBNET_ID: Final = TextLimit(CONTROL, "SubnetId", 32, 1, r"[-0-9a-zA-Z]+", "the id of a subnet, 'subnet-...'")
SECURITY_GROUP_ID: Final = TextLimit(
    CONTROL, "SecurityGroupId", 32, 1, r"[-0-9a-zA-Z]+", "the id of a security group, 'sg-...'"
)
SUBNETS: Final = 16
SECURITY_GROUPS: Final = 5
TAG_KEY: Final = TextLimit(
    CONTROL,
    "TagKey",
    128,
    1,
    r"(?!aws:)[\w\s.:/=+\-@]*",
    "letters, digits, spaces and _.:/=+-@",
)
TAG_VALUE: Final = TextLimit(
    CONTROL, "TagValue", 256, 0, r"[\w\s.:/=+\-@]*", "letters, digits, spaces and _.:/=+-@"
)
TAGS: Final = 50

# RegisterScalableTarget, PutScalingPolicy. The model has neither minimum nor maximum for these: below 0 they
# make no sense, and the API's whole numbers have 32 bits.
VARIANT_NAME: Final = TextLimit(CONTROL, "VariantName", 63, 1, _NAME, _NAME_FORM)
INSTANCES: Final = NumberLimit(AUTOSCALING, "ResourceCapacity", 0, 2_147_483_647, "instances")
COOLDOWN: Final = NumberLimit(AUTOSCALING, "Cooldown", 0, 2_147_483_647, "seconds")

# What the service uses when a request does not say (developer guide, "Asynchronous inference").
DEFAULT_REQUEST_TTL: Final = 21_600
DEFAULT_INVOCATION_TIMEOUT: Final = 900

# Ours, in seconds: how long after its last possible moment a request is still waited for. It covers the
# upload's own delay and clocks that disagree.
EXPIRY_SLACK: Final = 300
