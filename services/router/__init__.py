"""The router decides how each outbound message may travel.

The values of one message on its way from record to record:

| value | where | is |
| --- | --- | --- |
| ``Intent`` (``BadIntent`` where it can be answered but not followed) | ``libs.common.events.intents`` | what arrives |
| ``Attempt`` | ``facts`` | the intent, the number of its attempt, and the ``Facts`` that it is decided on |
| ``Decision`` | ``decide`` | ``Session``, ``Template``, ``Bridge``, ``Silent`` or ``Rejected`` |
| ``RecordedDecision`` | ``recorded_decision`` | the decision and its message as rows, written and read back |
| events | ``libs.common.events.outbound`` | ``OutboundDecision`` with a command or a ``DeliveryUpdate`` |

``worker`` takes a batch through them. ``reconcile`` follows up what was lost on the way.
"""
