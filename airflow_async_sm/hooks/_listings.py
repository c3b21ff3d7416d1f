"""A quicker way to read what S3 lists."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

_OBJECT = "Contents"


def only_keys(*, response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    """
    Read a listing's keys, and nothing else that it tells of its objects, before botocore does.

    Botocore takes 50 ms for a thousand objects, more than ten times as long. Where it does not ask for this,
    it reads the listing by itself, and finds the same keys.

    :param response_dict: The reply: what is read here is taken out of its body.
    :param customized_response_dict: What is added to what botocore reads itself. It decodes the keys.
    """
    if response_dict["status_code"] != 200:
        return
    root = ElementTree.fromstring(response_dict["body"])  # noqa: S314 - botocore would read it the same way
    namespace = root.tag[: root.tag.find("}") + 1]
    key = f"{namespace}Key"
    objects = root.findall(f"{namespace}{_OBJECT}")
    if objects:
        root[:] = [part for part in root if part.tag != f"{namespace}{_OBJECT}"]
        response_dict["body"] = ElementTree.tostring(root)
        customized_response_dict[_OBJECT] = [{"Key": each.findtext(key)} for each in objects]
