"""Organisations, numbers, customers, identities, consents and templates: rules, SQL and contract of each.

A customer is created in one place, whatever brings them in: the identity register creates the person, and
``identity_queries.write_customers`` has the only ``insert into customers``. There are two ways to call it, each inside
a transaction:

- ``identities.resolve`` finds or creates the customer behind ids that were seen: of a message, of an intent's ``to``,
  of any later channel.
- ``changes.apply`` stores what the platform says of them, for ``directory.changes.v1`` and for ``transom load`` alike.
"""
