"""The real servers on one machine: Apache Kafka, PostgreSQL and Valkey, out of wheels and jars."""
