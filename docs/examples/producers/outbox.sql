-- Events that are not published yet. A row is written in the transaction that makes the event true, and deleted when Kafka has it.
CREATE TABLE webhook_outbox (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text NOT NULL,
    key text NOT NULL CHECK (key <> ''),
    -- Not jsonb, which rewrites numbers and members. The bound is the pipeline's (max_event_bytes): what is larger would be in the way.
    value text NOT NULL CHECK (octet_length(value) <= 6 * 1024 * 1024),
    written_at timestamptz NOT NULL DEFAULT now()
);
