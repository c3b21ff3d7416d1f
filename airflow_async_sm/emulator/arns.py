"""The full names of SageMaker resources."""

from __future__ import annotations


def sagemaker_arn(*, region: str, account_id: str, kind: str, name: str) -> str:
    """
    Return the ARN of a resource. SageMaker writes the name in lower case in it.

    :param region: Region of the resource.
    :param account_id: Account of the resource, 12 digits.
    :param kind: ``endpoint``, ``endpoint-config`` or ``model``.
    :param name: Name of the resource.
    """
    return f"arn:aws:sagemaker:{region}:{account_id}:{kind}/{name.lower()}"
