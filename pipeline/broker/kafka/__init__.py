"""The way to Kafka over kafka-python, the default."""
