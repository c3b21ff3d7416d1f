from __future__ import annotations

import json

import pytest

from airflow_async_sm.core.failures import Failure, FailureKind, classify, failure_text

REJECTED = FailureKind.MODEL_REJECTED
BROKE = FailureKind.MODEL_BROKE
BAD_ANSWER = FailureKind.BAD_ANSWER
UNREADABLE = FailureKind.INPUT_UNREADABLE
UNWRITABLE = FailureKind.OUTPUT_UNWRITABLE
TIMED_OUT = FailureKind.INVOCATION_TIMED_OUT
EXPIRED = FailureKind.EXPIRED
UNKNOWN = FailureKind.UNKNOWN


def test_a_small_failure_object_is_shown_whole():
    assert failure_text(b' {"error": "bad row"}\n', total_bytes=22) == '{"error": "bad row"}'


def test_of_a_large_failure_object_the_end_is_shown():
    assert failure_text(b"the cause", total_bytes=9_000) == "(the last 9 of 9,000 bytes) …the cause"


def test_bytes_that_are_no_text_are_shown_as_far_as_they_are():
    assert failure_text(b"caf\xe9", total_bytes=4) == "caf�"


def test_an_empty_failure_object_is_named_as_such():
    assert failure_text(b"", total_bytes=0) == "(the failure object is empty)"
    assert classify(failure_text(b"", total_bytes=0)) == Failure(UNKNOWN)


# What users of the service have quoted, and its words for what nobody has quoted.
SERVICE = [
    (
        "Connection reset by peer for the detector endpoint. Please retry.",
        BROKE,
        "closed the connection",
    ),
    (
        "Amazon SageMaker could not get a response from the detector endpoint. This can occur when CPU or "
        "memory utilization is high. To check your utilization, see Amazon CloudWatch. To fix this problem, "
        "use an instance type with more CPU capacity or memory.",
        BROKE,
        "larger instance type, or lower",
    ),
    (
        "Timed out uploading object (bucket: results, key: out/4c5f.out)",
        TIMED_OUT,
        "download, model and upload together: raise invocation_timeout",
    ),
    ("Your invocation timed out while waiting for a response from container primary.", TIMED_OUT, "3,600 s"),
    ("Failed to download object (bucket: inputs, key: in/1.json)", UNREADABLE, "s3:GetObject"),
    ("ClientError: Failed to download object (bucket: inputs, key: in/1.json)", UNREADABLE, "kms:Decrypt"),
    ("Failed to upload object (bucket: results, key: out/4c5f.out)", UNWRITABLE, "s3:PutObject"),
    (
        "The response from container primary did not specify the required Content-Length header",
        BAD_ANSWER,
        "send a Content-Length, and not a chunked",
    ),
    (
        "Response received from the primary container has headers with length greater than 4096 bytes. "
        "Reduce the length of the response headers.",
        BAD_ANSWER,
        "shorter headers",
    ),
    (
        "Response received from the primary container is larger than 1073741824 bytes.",
        BAD_ANSWER,
        "answer less",
    ),
    (
        "The request was not processed within RequestTTLSeconds and has expired.",
        EXPIRED,
        "Raise request_ttl",
    ),
    ("The inference request has expired", EXPIRED, "more instances"),
    (
        "ClientError: Received client error (400) from model. See the SageMaker Endpoint logs in your "
        "account for more information.",
        REJECTED,
        "",
    ),
    ('Received server error (500) from primary with message "no"', BROKE, ""),
    ("ClientError: Received server error (0) from model. See the SageMaker Endpoint logs", BROKE, "its log"),
    (
        'Received client error (413) from primary with message "Failed to buffer the request body: length '
        'limit exceeded"',
        REJECTED,
        "TS_MAX_REQUEST_SIZE",
    ),
]

TORCHSERVE = [
    (
        {"code": 400, "type": "BadRequestException", "message": "Parameter model_name is required."},
        REJECTED,
        "",
    ),
    (
        {"code": 404, "type": "ModelNotFoundException", "message": "Model not found: m"},
        REJECTED,
        "the path or the model",
    ),
    (
        {
            "code": 413,
            "type": "TooLongFrameException",
            "message": "content length exceeded 6553500 bytes",
        },
        REJECTED,
        "2 to 6 MB",
    ),
    ({"code": 500, "type": "InternalServerException", "message": "Worker died."}, BROKE, "container's log"),
    ({"code": 507, "type": "InternalServerException", "message": "Worker died."}, BROKE, "container's log"),
    (
        {
            "code": 503,
            "type": "ServiceUnavailableException",
            "message": 'Model "m" has no worker to serve inference request. Please use scale workers API to '
            "add workers.",
        },
        BROKE,
        "busy or not ready",
    ),
    ({"code": 503, "type": "InternalServerException", "message": "Prediction failed"}, BROKE, "busy"),
]

# The Multi Model Server, on which the containers for Hugging Face's transformers are built.
MMS = [
    (
        {
            "code": 400,
            "type": "InternalServerException",
            "message": "'inputs' must be of type `str`",
        },
        REJECTED,
        "calls every error of its handler a bad request",
    ),
    (
        {
            "code": 400,
            "type": "InternalServerException",
            "message": "CUDA out of memory. Tried to allocate 20.00 MiB (GPU 0; 14.76 GiB total capacity)",
        },
        BROKE,
        "ran out of memory",
    ),
    (
        {"code": 400, "type": "InternalServerException", "message": "[Errno 28] No space left on device"},
        BROKE,
        "disk is full",
    ),
    (
        {
            "code": 400,
            "type": "InternalServerException",
            "message": "CUDA error: device-side assert triggered",
        },
        BROKE,
        "GPU reported an error",
    ),
]

DJL = [
    ({"code": 400, "type": "TranslateException", "message": "Malformed input data"}, REJECTED, ""),
    ({"code": 424, "message": "invoke handler failure", "error": "list index out of range"}, BROKE, ""),
    ({"code": 429, "message": "Request queue is full"}, BROKE, "more workers"),
]

FASTAPI = [
    (
        {"detail": [{"type": "missing", "loc": ["body", "text"], "msg": "Field required", "input": {}}]},
        REJECTED,
        "",
    ),
    ({"detail": "Not Found"}, REJECTED, "the path or the model"),
    ({"detail": "Image is smaller than 32 pixels"}, REJECTED, ""),
    ({"detail": "Internal Server Error"}, BROKE, ""),
    ({"detail": "Service Unavailable"}, BROKE, "busy or not ready"),
    ({"detail": {"status_code": 400, "reason": "no image"}}, REJECTED, ""),
    ({"detail": "Prediction failed: list index out of range"}, UNKNOWN, ""),
    ({"detail": "The model is still loading"}, UNKNOWN, ""),
    ({"detail": ""}, UNKNOWN, ""),
    ({"detail": []}, UNKNOWN, ""),
    ({"detail": None}, UNKNOWN, ""),
]

OPENAI_LIKE = [
    (
        {
            "error": {
                "message": "This model's maximum context length is 4096 tokens. However, you requested 5000.",
                "type": "BadRequestError",
                "param": None,
                "code": 400,
            }
        },
        REJECTED,
        "Shorten the prompt",
    ),
    (
        {
            "object": "error",
            "message": "max_tokens must be at least 1",
            "type": "BadRequestError",
            "code": 400,
        },
        REJECTED,
        "",
    ),
    (
        {
            "error": {
                "message": "too long",
                "type": "invalid_request_error",
                "code": "context_length_exceeded",
            }
        },
        REJECTED,
        "fewer tokens",
    ),
    ({"error": {"message": "no", "type": "invalid_request_error", "code": None}}, REJECTED, ""),
    ({"error": {"message": "later", "type": "rate_limit_error"}}, BROKE, "lower the endpoint's"),
    ({"error": {"message": "oops", "type": "server_error", "code": None}}, BROKE, ""),
    ({"error": {"message": "EngineCore died", "type": "InternalServerError", "code": 500}}, BROKE, ""),
]

# Text Generation Inference and Text Embeddings Inference.
HUGGING_FACE = [
    (
        {
            "error": "Input validation error: `inputs` must have less than 1024 tokens. Given: 2000",
            "error_type": "validation",
        },
        REJECTED,
        "Shorten the prompt",
    ),
    ({"error": "batch size 64 > maximum allowed batch size 32", "error_type": "Validation"}, REJECTED, ""),
    ({"error": "Model is overloaded", "error_type": "overloaded"}, BROKE, "busy or not ready"),
    ({"error": "Request failed during generation", "error_type": "generation"}, BROKE, ""),
    ({"error": "Incomplete generation", "error_type": "incomplete_generation"}, BROKE, ""),
    ("Failed to buffer the request body: length limit exceeded", REJECTED, "limit of its own for the size"),
]

OTHERS = [
    ("Internal Server Error", BROKE, ""),
    ("404 page not found", UNKNOWN, ""),
    ("405 Method Not Allowed", REJECTED, ""),
    (
        "<html>\r\n<head><title>413 Request Entity Too Large</title></head>\r\n<body>nginx</body></html>",
        REJECTED,
        "TS_MAX_REQUEST_SIZE",
    ),
    (
        "<html>\r\n<head><title>504 Gateway Time-out</title></head>\r\n<body>nginx</body></html>",
        BROKE,
        "SAGEMAKER_MODEL_SERVER_TIMEOUT",
    ),
    ("<html><head><title>Internal Server Error</title></head><body/></html>", BROKE, ""),
    ("<html><head><title>My model</title></head><body/></html>", UNKNOWN, ""),
    (
        "Content type text/xml is not supported by this framework.\n\n            Please implement input_fn "
        "to to deserialize the request data or an output_fn to serialize the response.",
        REJECTED,
        "content_type and accept",
    ),
    (
        "Unable to evaluate payload provided: Feature size of csv inference data 3 is not consistent with "
        "feature size of trained model 8.",
        REJECTED,
        "the format and the columns",
    ),
    (
        "Loading csv data failed with Exception, please ensure data is in csv format:\n<class 'ValueError'>",
        REJECTED,
        "the format and the columns",
    ),
    ({"error_code": "BAD_REQUEST", "message": "The input must be a JSON dictionary"}, REJECTED, ""),
    ({"type": "about:blank", "title": "Bad Request", "status": "400 BAD_REQUEST"}, REJECTED, ""),
    ({"statusCode": 502}, BROKE, ""),
    ({"status": 415, "message": "no"}, REJECTED, "content_type"),
    ({"status": 408}, BROKE, "time limit of its own"),
    ([{"code": 422, "message": "bad"}], REJECTED, ""),
    ('"Internal Server Error"', BROKE, ""),
    (
        "division by zero\nTraceback (most recent call last):\n  File ...\nZeroDivisionError",
        BROKE,
        "container's log",
    ),
    (
        {"statusCode": 400, "message": "Traceback (most recent call last): ..."},
        REJECTED,
        "",
    ),
]

MEMORY = [
    "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
    "RuntimeError: CUDA error: out of memory",
    "CUDA_ERROR_OUT_OF_MEMORY",
    "java.lang.OutOfMemoryError: Java heap space",
    "OSError: [Errno 12] Cannot allocate memory",
    "DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.",
    "MemoryError",
    "numpy.core._exceptions._ArrayMemoryError: Unable to allocate 3.50 GiB for an array",
    "terminate called after throwing an instance of 'std::bad_alloc'",
    "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 123 bytes.",
    "OOM when allocating tensor with shape[1,2]",
    '{"code": 400, "message": "CUDA out of memory"}',
    '{"detail": [{"msg": "HIP out of memory"}]}',
    "(the last 4,096 of 9,000 bytes) …line 3, in f\nMemoryError",
]

NOTHING_KNOWN = [
    {"message": "Unknown task: initialization", "status": "error"},
    {"error": "bad row"},
    {"code": 1007},
    {"code": True},
    {"code": 4000},
    {"status": 200, "error": "no"},
    {"code": 404.5},
    {"type": "error"},
    {"error": ["no"]},
    [],
    [1, 2],
    7,
    None,
    "no",
    "The model's disk is nearly full, which took 500 ms.",
    "Somebody wrote: Timed out uploading object (bucket: b, key: k)",
    "…and 413 more rows",
    "[" * 4_096,
    "9" * 4_096,
    '(the last 4,096 of 9,000 bytes) …"}, {"code": 400, "message": "cut in two"}}',
    "The coupon in this request text has run out.",
]

KNOWN = SERVICE + TORCHSERVE + MMS + DJL + FASTAPI + OPENAI_LIKE + HUGGING_FACE + OTHERS


def written(answer):
    return answer if isinstance(answer, str) else json.dumps(answer)


@pytest.mark.parametrize(("answer", "kind", "advice"), KNOWN, ids=lambda value: written(value)[:50])
def test_a_known_text_is_sorted_and_comes_with_advice(answer, kind, advice):
    failure = classify(written(answer))
    assert failure.kind is kind
    assert advice in failure.advice
    assert bool(advice) is bool(failure.advice)


@pytest.mark.parametrize("answer", MEMORY)
def test_out_of_memory_is_never_the_requests_fault(answer):
    failure = classify(answer)
    assert failure.kind is BROKE
    assert "more memory" in failure.advice


@pytest.mark.parametrize("answer", NOTHING_KNOWN, ids=lambda value: written(value)[:50])
def test_of_a_text_that_says_nothing_known_nothing_is_claimed(answer):
    assert classify(written(answer)) == Failure(UNKNOWN)


def test_what_would_fail_again_is_permanent_and_nothing_else_is():
    permanent = {kind for kind in FailureKind if kind.is_permanent}
    assert permanent == {REJECTED, BAD_ANSWER, UNREADABLE, UNWRITABLE}
    assert permanent == {kind for kind in FailureKind if Failure(kind).permanent}


def test_every_advice_is_made_of_sentences():
    for answer, _, _ in KNOWN:
        advice = classify(written(answer)).advice
        assert not advice or (advice[0].isupper() and advice.endswith("."))
