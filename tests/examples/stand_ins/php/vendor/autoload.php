<?php

// Stands in for composer's autoloader and the library standard-webhooks where Packagist cannot be reached: what the example uses of it,
// made after the public specification. It says nothing about the library itself.

declare(strict_types=1);

namespace StandardWebhooks\Exception {
    class WebhookVerificationException extends \Exception
    {
    }
}

namespace StandardWebhooks {
    use StandardWebhooks\Exception\WebhookVerificationException;

    class Webhook
    {
        private const TOLERANCE_SECONDS = 300;

        private string $key;

        public function __construct(string $secret)
        {
            $this->key = base64_decode(preg_replace('/^whsec_/', '', $secret), true);
        }

        public function verify(string $payload, array $headers): void
        {
            [$id, $timestamp, $signatures] = [$headers['webhook-id'], $headers['webhook-timestamp'], $headers['webhook-signature']];
            if ($id === null || $timestamp === null || $signatures === null) {
                throw new WebhookVerificationException('a header is missing');
            }
            if (!ctype_digit($timestamp) || abs(time() - (int) $timestamp) > self::TOLERANCE_SECONDS) {
                throw new WebhookVerificationException('the timestamp is off');
            }
            $expected = 'v1,' . base64_encode(hash_hmac('sha256', "$id.$timestamp.$payload", $this->key, true));
            foreach (explode(' ', $signatures) as $signature) {
                if (hash_equals($expected, $signature)) {
                    return;
                }
            }
            throw new WebhookVerificationException('no signature fits');
        }
    }
}
