"""A place in a consumer group that has a name of its own (static membership), and the end of whoever loses it to another process.

aiokafka 0.14 joins with its ``group_instance_id``, and neither heartbeats nor commits with it. So the brokers cannot answer that somebody else has
joined under the name since: they answer that they do not know the member. aiokafka then joins anew and takes the place back, and two processes
with one name take it from each other for ever. ``Coordinator`` looks before it joins anew: who is not the last that joined ends.
"""

from typing import Any

from aiokafka.consumer import consumer
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import KafkaError
from aiokafka.protocol.admin import DescribeGroupsRequest
from aiokafka.protocol.group import JoinGroupRequest

_UNIQUE = 37  # characters that the brokers put behind the name: a dash and a UUID


class FencedError(KafkaError):  # type: ignore[misc] # aiokafka has no types
    """Another process has joined the group under our name."""


class Coordinator(GroupCoordinator):  # type: ignore[misc] # aiokafka has no types
    """aiokafka's, which raises FencedError instead of taking its place back."""

    _placed = False
    member_id: str

    async def ensure_active_group(self, subscription: Any, prev_assignment: Any) -> Any:
        if self._group_instance_id is None:
            return await super().ensure_active_group(subscription, prev_assignment)
        if self._placed and self.member_id == JoinGroupRequest.UNKNOWN_MEMBER_ID:
            await self._look()
        try:
            assignment = await super().ensure_active_group(subscription, prev_assignment)
        except KafkaError:
            await self._look()
            raise
        self._placed = self._placed or assignment is not None
        return assignment

    async def _look(self) -> None:
        answer = await self._send_req(DescribeGroupsRequest([self.group_id]))
        members: list[str] = [member[0] for member in answer.groups[0][5]]
        for member in members:
            if member[:-_UNIQUE] == self._group_instance_id and member != self.member_id:
                raise FencedError(self.group_id)


def let_the_last_one_have_the_place() -> None:
    """Let every consumer of this process be a ``Coordinator``'s. May be called again."""
    consumer.GroupCoordinator = Coordinator
