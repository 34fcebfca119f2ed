# Events as the pipeline wants them: the envelope, and for which topic and key. In Rails, write the row in the transaction that makes the
# event true:
#
#   class Order < ApplicationRecord
#     def complete!
#       transaction do
#         update!(state: "complete", completed_at: Time.current)
#         WebhookOutbox.create!(OmsEvent.row("order_completed", OrderSerializer.new(self).as_json))
#       end
#     end
#   end

require "json"
require "securerandom"
require "time"

module OmsEvent
  # What a row of the table webhook_outbox holds: topic, key and value.
  def self.row(event_name, data, subscription_id: nil, occurred_at: Time.now)
    data = data.transform_keys(&:to_s)
    topic, key = topic_and_key(event_name, data)
    event = {
      "id" => SecureRandom.uuid,
      "event_name" => event_name,
      "occurred_at" => occurred_at.utc.iso8601(3),
      # The guest token gives access to the order: no receiver gets it, and it has no business in Kafka.
      "data" => data.except("token")
    }
    event["references"] = { "subscription_id" => subscription_id } if subscription_id
    { topic: topic, key: key, value: JSON.generate(event) }
  end

  # The key keeps what is about one order, or about one stock item, in its order.
  def self.topic_and_key(event_name, data)
    case event_name
    when /\Aorder_/ then ["oms.orders", data.fetch("number")]
    when /\Ashipment_/ then ["oms.shipments", data.fetch("order_id")]
    when /\Astock_item_/ then ["oms.stock-items", data.fetch("id").to_s]
    else raise ArgumentError, "unknown event: #{event_name}"
    end
  end
end
