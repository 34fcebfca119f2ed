<?php

// An endpoint for OMS webhooks: verify, store, answer. worker.php processes.
//
//   composer install
//   WEBHOOK_SECRET=whsec_... php -S 127.0.0.1:8000 receiver.php

declare(strict_types=1);

require __DIR__ . '/vendor/autoload.php';

use StandardWebhooks\Exception\WebhookVerificationException;
use StandardWebhooks\Webhook;

if (parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH) !== '/webhooks' || $_SERVER['REQUEST_METHOD'] !== 'POST') {
    http_response_code(404);
    exit;
}

// The bytes as they came: parsed and written again, they would not fit the signature.
$body = file_get_contents('php://input');
$headers = [
    'webhook-id' => $_SERVER['HTTP_WEBHOOK_ID'] ?? null,
    'webhook-timestamp' => $_SERVER['HTTP_WEBHOOK_TIMESTAMP'] ?? null,
    'webhook-signature' => $_SERVER['HTTP_WEBHOOK_SIGNATURE'] ?? null,
];
try {
    (new Webhook(getenv('WEBHOOK_SECRET')))->verify($body, $headers);
} catch (WebhookVerificationException) {
    http_response_code(401);
    exit;
}

http_response_code(keep($headers['webhook-id'], $body) ? 204 : 503);

// Write a webhook to disk, once. A copy of it writes the same bytes to the same file, which does no harm.
function keep(string $webhookId, string $body): bool
{
    $inbox = getenv('INBOX') ?: 'inbox';
    if (!is_dir($inbox) && !mkdir($inbox, 0700, true) && !is_dir($inbox)) {
        return false;
    }
    $part = tempnam($inbox, 'part');
    $file = $part === false ? false : fopen($part, 'wb');
    return $file !== false
        && fwrite($file, $body) === strlen($body)
        && fsync($file)
        && fclose($file)
        && rename($part, $inbox . '/' . hash('sha256', $webhookId) . '.json');
}
