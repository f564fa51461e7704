"""Kafka's Metadata request in version 8, which also says what this client may do with a topic.

aiokafka's own ends with version 5. https://kafka.apache.org/protocol has the fields and the numbers.
"""

from aiokafka.protocol.admin import DescribeGroupsResponse_v3
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Int16, Int32, Schema, String

READ, WRITE, DESCRIBE = 3, 4, 8
"""Numbers of AclOperation."""
UNKNOWN_TOPIC, TOPIC_FORBIDDEN, GROUP_FORBIDDEN = 3, 29, 30
"""Error codes."""


def may(operations: int, operation: int) -> bool:
    """Whether a field of authorised operations has this one."""
    return bool(operations >> operation & 1)


class MetadataResponseV8(Response):  # type: ignore[misc]  # aiokafka has no types
    API_KEY = 3
    API_VERSION = 8
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            Array(("node_id", Int32), ("host", String("utf-8")), ("port", Int32), ("rack", String("utf-8"))),
        ),
        ("cluster_id", String("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            Array(
                ("error_code", Int16),
                ("topic", String("utf-8")),
                ("is_internal", Boolean),
                (
                    "partitions",
                    Array(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", Array(Int32)),
                        ("isr", Array(Int32)),
                        ("offline_replicas", Array(Int32)),
                    ),
                ),
                ("operations", Int32),
            ),
        ),
        ("cluster_operations", Int32),
    )


class MetadataRequestV8(RequestStruct):  # type: ignore[misc]  # aiokafka has no types
    API_KEY = 3
    API_VERSION = 8
    RESPONSE_TYPE = MetadataResponseV8
    SCHEMA = Schema(
        ("topics", Array(String("utf-8"))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_operations", Boolean),
        ("include_topic_operations", Boolean),
    )


class TopicsRequest(Request[MetadataRequestV8]):  # type: ignore[misc]  # aiokafka has no types
    """Asks about these topics, and creates none of them."""

    API_KEY = 3

    def __init__(self, topics: list[str]) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[MetadataRequestV8]) -> MetadataRequestV8:
        return request_struct_class(self._topics, False, False, True)  # noqa: FBT003 -- fields of the protocol


class DescribeGroupsRequestV3(RequestStruct):  # type: ignore[misc]  # aiokafka has no types
    """aiokafka reads the answer to its own class of this version without the last field of each group."""

    API_KEY = 15
    API_VERSION = 3
    RESPONSE_TYPE = DescribeGroupsResponse_v3
    SCHEMA = Schema(("groups", Array(String("utf-8"))), ("include_authorized_operations", Boolean))


class GroupsRequest(Request[DescribeGroupsRequestV3]):  # type: ignore[misc]  # aiokafka has no types
    """Asks about these groups, and what this client may do with them."""

    API_KEY = 15

    def __init__(self, groups: list[str]) -> None:
        self._groups = groups

    def build(self, request_struct_class: type[DescribeGroupsRequestV3]) -> DescribeGroupsRequestV3:
        return request_struct_class(self._groups, True)  # noqa: FBT003 -- a field of the protocol
