"""Ingest: webhooks of the providers in, what customers said and how far messages came out.

A customer's message on its way, from record to record. The records (1 and 5) are written from fields, and no object is
made of them:

1. ``MetaWebhook`` (``libs.common.events.inbound``): one item of a webhook, in a record of ``webhooks.v1``. ``meta``
   splits, ``edge`` publishes.
2. ``items.CustomerMessage``: what the record says. ``parse`` reads it.
3. ``queries.Place``: organisation and conversation. ``identity`` finds or creates the customer through the directory.
4. ``queries.StoredMessage``: what is recorded of it and of its window. ``queries`` stores it.
5. ``InboundMessage`` (``libs.common.events.inbound``): what is published. ``events`` builds it from what is recorded.

A customer's SMS goes another way between 2 and 4: ``sms_edge`` takes it, ``sms_gate`` finds the organisation by the
called number, ``sms_parts`` joins its parts, ``sms`` finds the conversation and stores it. What customers do in the
portal comes by ``portal.messages.v1``, without an edge: ``portal`` stores it. All end in 5.
"""
