"""What streams tell: messages and conversations as the API has them, for everybody who watches an organisation.

Rule 1: what is told is what the read model answers to each person. Nothing is masked or left out here.
Rule 2: a conversation is read once for all people who may see the same of it. Only "unread" is each member's own.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple
from uuid import UUID

from libs.common.db.shares import Shares
from services.inbox import conversation_queries, sse
from services.inbox.conversations import CONTACT, Conversation, Conversations
from services.inbox.messages import Messages
from services.inbox.people import Person
from services.inbox.problems import Problem
from services.inbox.shapes import conversation_json, message_json
from services.inbox.streams import Stream


class Told(NamedTuple):
    """What is to be told of one conversation: itself, and these of its messages."""

    conversation_id: UUID
    message_ids: Collection[UUID]


class Teller:
    """Asks the read model for all streams of an organisation at once."""

    def __init__(self, reads: Shares, conversations: Conversations, messages: Messages) -> None:
        self._reads = reads
        self._conversations = conversations
        self._messages = messages

    async def states_of(self, org_id: str, streams: Sequence[Stream], news: Sequence[Told]) -> Sequence[sse.States]:
        """For each of the streams what its person may see. Streams that see the same share it."""
        ids = [told.conversation_id for told in news]
        seen: dict[bool, Mapping[UUID, Conversation]] = {}
        said: dict[tuple[bool, str], Mapping[UUID, Mapping[str, Any]]] = {}
        for stream in streams:
            sight, language = stream.person.may(CONTACT), stream.language
            await self._conversations.note_lists(stream.person)
            if sight not in seen:
                seen[sight] = await self._read(stream.person, ids)
            if (sight, language.tag) not in said:
                said[sight, language.tag] = await self._read_messages(stream, news)
        unread = await self._unread(org_id, {stream.person.user_id for stream in streams}, ids)
        shared: dict[tuple[bool, str, frozenset[UUID]], sse.States] = {}
        found = []
        for stream in streams:
            sight, language = stream.person.may(CONTACT), stream.language
            theirs = unread.get(stream.person.user_id, frozenset())
            key = sight, language.tag, theirs
            if key not in shared:
                shared[key] = sse.States(
                    said[sight, language.tag],
                    {
                        one: conversation_json(replace(shown, unread=one in theirs), language)
                        for one, shown in seen[sight].items()
                    },
                )
            found.append(shared[key])
        return found

    async def _read(self, person: Person, conversations: Sequence[UUID]) -> Mapping[UUID, Conversation]:
        found = {}
        async with self._reads.of(person.org_id) as db:
            for conversation_id in conversations:
                try:
                    found[conversation_id] = await self._conversations.read_one(db, person, conversation_id)
                except Problem:  # a thread of a group, which is no conversation
                    continue
        return found

    async def _read_messages(self, stream: Stream, news: Sequence[Told]) -> Mapping[UUID, Mapping[str, Any]]:
        found = {}
        for conversation_id, message_ids in news:
            if not message_ids:
                continue
            try:
                messages = await self._messages.these(
                    stream.person, conversation_id, list(message_ids), stream.language
                )
            except Problem:
                continue
            for message in messages:
                found[message.message_id] = {**message_json(message), "conversation_id": conversation_id}
        return found

    async def _unread(
        self, org_id: str, user_ids: Collection[str], conversations: Sequence[UUID]
    ) -> Mapping[str, frozenset[UUID]]:
        async with self._reads.of(org_id) as db:
            return await conversation_queries.unread_of(db, org_id, sorted(user_ids), conversations)
