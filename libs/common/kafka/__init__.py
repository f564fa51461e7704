"""Kafka: one producer that awaits whole batches, one batch consumer that loses nothing, topics as declared.

Reading:

- ``topology``: what a service reads and writes, declared on FastStream; a subscription: topic, decoder, handler
- ``consumer``: the subscriptions of a service, readiness, drain
- ``batch_runner``: one subscription: handle a batch, publish its dead letters, commit its offsets
- ``batch_processor``: which records of a batch are handled, dead or retried; no Kafka in it
- ``partitions``, ``commits``: where reading goes on, which partitions are stopped; offsets committed meanwhile
- ``stalls``, ``progress``, ``caught_up``: partitions that make no progress; how far this process is, for the metrics
- ``dead_letter``, ``parked``: a dead letter on the wire and in the log, and its trace in PostgreSQL
- ``records``: what a handler gets
- ``rewinding_consumer``, ``in_flight``: aiokafka's consumer, which skips no record when reading fails, and reads no
  partition that is worked on
- ``inflate``: compressed batches within a bound
- ``topic_tail``: follow a topic without a group

Writing:

- ``producer``, ``batch_limits``: publish a batch: acknowledged or Transient, within a bounded time; how large it may be

Around both:

- ``connection``: how to reach the brokers, and the prefix of every name
- ``topics``, ``partition_growth``, ``groups``: create the declared topics; give them more partitions; what groups have
  committed
- ``aiokafka_patches``, ``faststream_patches``: all use of private names of these libraries
"""
