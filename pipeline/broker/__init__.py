"""Kafka: poll loop, producer, compacted table, topics. The only importer of kafka."""
