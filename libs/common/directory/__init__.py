"""Organisations, numbers, customers, identities, consents and templates: rules, SQL and contract of each.

A customer is created in one place, whatever brings them in: the identity register creates the person, and
``identity_queries.write_customers`` has the only ``insert into customers``. It is called inside a transaction, by way
of:

- ``identities.resolve`` finds or creates the customer behind ids that were seen: of a message, of an intent's ``to``,
  of any later channel.
- ``identities.bind`` joins ids that a provider named together; it creates a customer only where a number changed hands.
- ``changes.apply`` stores what the platform says of them, for ``directory.changes.v1`` and for ``transom load`` alike.
"""
