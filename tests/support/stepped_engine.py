import asyncio

from libs.common.sending.engine import SendEngine
from libs.common.sending.outcomes import PreparedT


class SteppedEngine(SendEngine[PreparedT]):
    """An engine that is not started: a test makes its steps, and looks between them."""

    async def call_once(self) -> int:
        """One look and one claim, its calls to their answers, which are not recorded. Returns how many were made."""
        self._dispatcher._calls.clear()
        await self._dispatcher._look()
        await self._dispatcher._round()
        if calls := list(self._dispatcher._calls):
            await asyncio.wait(calls)
        return len(calls)

    async def begin_calls(self) -> int:
        """One look and one claim, whose calls go on. Returns how many calls run now."""
        await self._dispatcher._look()
        await self._dispatcher._round()
        return self.calls_running

    @property
    def calls_running(self) -> int:
        return len(self._dispatcher._calls)

    async def abandon_calls(self) -> None:
        """End the calls that run, as a killed process does: no answer comes to hand."""
        calls = list(self._dispatcher._calls)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

    async def record(self) -> None:
        """Record the answers in hand."""
        await self._recorder.flush()
        await self._publisher.flush()

    async def keep_leases(self) -> None:
        await self._recorder.keep_leases()

    async def claim_once(self) -> int:
        """One look and one claim, its calls to their records. Returns how many calls were made."""
        made = await self.call_once()
        await self.record()
        return made

    async def sweep_once(self) -> None:
        for task in self._sweeper.tasks.values():
            await task()
        await self._publisher.flush()
