# Stands in for the gem of this name where RubyGems cannot be reached: what the example uses of it, made after the public specification.
# It says nothing about the gem itself.

require "openssl"

module StandardWebhooks
  class WebhookVerificationError < StandardError
  end

  class Webhook
    TOLERANCE_SECONDS = 300

    def initialize(secret)
      @key = secret.delete_prefix("whsec_").unpack1("m")
    end

    def verify(payload, headers)
      id, timestamp, signatures = headers.values_at("webhook-id", "webhook-timestamp", "webhook-signature")
      raise WebhookVerificationError, "a header is missing" unless id && timestamp && signatures
      raise WebhookVerificationError, "the timestamp is off" unless in_time?(timestamp)

      digest = OpenSSL::HMAC.digest("SHA256", @key, "#{id}.#{timestamp}.".b + payload.b)
      expected = "v1,#{[digest].pack("m0")}"
      return if signatures.split.any? { |signature| OpenSSL.secure_compare(signature, expected) }

      raise WebhookVerificationError, "no signature fits"
    end

    private

    def in_time?(timestamp)
      timestamp.match?(/\A\d{1,12}\z/) && (Time.now.to_i - timestamp.to_i).abs <= TOLERANCE_SECONDS
    end
  end
end
