import asyncio

from libs.common.sending.engine import SendEngine
from libs.common.sending.outcomes import PreparedT


class SteppedEngine(SendEngine[PreparedT]):
    """An engine that is not started: a test makes its steps, and looks between them."""

    async def claim_once(self) -> int:
        """One look and one claim, its calls to their records. Returns how many calls were made."""
        self._dispatcher._calls.clear()
        await self._dispatcher._look()
        await self._dispatcher._round()
        if calls := list(self._dispatcher._calls):
            await asyncio.wait(calls)
        await self._recorder.flush()
        await self._publisher.flush()
        return len(calls)

    async def sweep_once(self) -> None:
        for task in self._sweeper.tasks.values():
            await task()
        await self._publisher.flush()
