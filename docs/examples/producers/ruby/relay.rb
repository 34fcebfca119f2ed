# Publishes what stands in the table webhook_outbox. When something fails it ends, so that whoever supervises it starts it again.
#
#   bundle install
#   DATABASE_URL=postgresql://... KAFKA=kafka-1:9092 bundle exec ruby relay.rb

require "pg"
require "rdkafka"

BATCH = 500
ONE_RELAY = 730_501 # the number of an advisory lock; any that nobody else in this database uses

producer = Rdkafka::Config.new(
  "bootstrap.servers" => ENV.fetch("KAFKA"),
  "acks" => "all",
  "enable.idempotence" => true,
  "message.max.bytes" => 8 * 1024 * 1024,
  # As kafka-python and the Java client choose partitions: one key, one partition, whoever publishes.
  "partitioner" => "murmur2_random"
).producer
database = PG.connect(ENV.fetch("DATABASE_URL"))

# One relay at a time keeps the order. A second one waits here, and goes on when the first one's connection ends.
database.exec_params("SELECT pg_advisory_lock($1)", [ONE_RELAY])

# Publish the oldest events, and delete them when Kafka has acknowledged all; returns how many. When it dies in between they are published
# again, with the ids that they had: receivers know them.
relay = lambda do
  database.transaction do
    rows = database.exec_params("SELECT position, topic, key, value FROM webhook_outbox ORDER BY position LIMIT $1", [BATCH]).to_a
    sent = rows.map { |row| producer.produce(topic: row["topic"], key: row["key"], payload: row["value"]) }
    sent.each(&:wait)
    positions = PG::TextEncoder::Array.new.encode(rows.map { |row| row["position"].to_i })
    database.exec_params("DELETE FROM webhook_outbox WHERE position = ANY($1::bigint[])", [positions])
    rows.size
  end
end

loop { sleep 0.2 if relay.call.zero? }
