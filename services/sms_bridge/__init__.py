"""The SMS bridge sends bridges and plain SMS through an SMS provider.

The values of one message on its way from record to record:

| value | where | is |
| --- | --- | --- |
| ``SmsCommand`` | ``libs.common.events.outbound`` | what arrives |
| ``SendRow`` | ``libs.common.sending.rows`` | the command as a row, with everything that is known of its send |
| ``Claim`` of ``OutgoingSms`` | ``libs.common.sending.rows``, ``providers`` | the row while it is this process's |
| ``SendOutcome`` | ``libs.common.sending.outcomes`` | what the provider's module read in its answer |
| events | ``libs.common.events.outbound`` | ``DeliveryUpdate`` or ``OutboundRefused`` |

``adapter`` is the part that is SMS; the way of a row is ``libs.common.sending``.
"""
