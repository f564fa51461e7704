"""The WhatsApp sender sends commands through Meta's Graph API.

The values of one message on its way from record to record:

| value | where | is |
| --- | --- | --- |
| ``WhatsappCommand`` | ``libs.common.events.outbound`` | what arrives |
| ``SendRow`` | ``libs.common.sending.rows`` | the command as a row, with everything that is known of its send |
| ``Claim`` of ``Ready`` | ``libs.common.sending.rows``, ``gate`` | the row while it is this process's to send |
| ``SendOutcome`` | ``libs.common.sending.outcomes`` | what ``classify`` read in Meta's answer |
| events | ``libs.common.events.outbound`` | ``DeliveryUpdate`` or ``OutboundRefused`` |

``adapter`` is the part that is Meta's; the way of a row is ``libs.common.sending``.
"""
