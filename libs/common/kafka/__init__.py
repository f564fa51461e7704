"""Kafka: one producer that awaits whole batches, one batch consumer that loses nothing, topics as declared.

- ``connection``: how to reach the brokers, and the prefix before every name
- ``producer``: publish a batch, acknowledged or Transient, within a bounded time
- ``enqueue``: how records get to aiokafka cheaply
- ``topics``: create what is declared, delete what a test made
- ``consumer``: subscriptions, readiness, drain
- ``runner``: one subscription: batch in, handled, dead letters out, offsets committed
- ``partitions``: commits, where reading goes on, which partitions are stopped
- ``isolate``: one batch: who was handled, who is dead, how far each partition may be committed; no Kafka in it
- ``dead_letter``: a dead letter on the wire
- ``records``: what a handler sees
- ``lenient``: header keys that are not UTF-8, and reading that fails
- ``spells``: something that comes again and again, and since when
- ``quiet``: aiokafka's complaints, once a minute
"""
