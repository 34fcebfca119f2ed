<?php

// Works on all that receiver.php has kept and that has no mark yet, also on what came before the last crash.
//
//   php worker.php

declare(strict_types=1);

$inbox = getenv('INBOX') ?: 'inbox';

while (true) {
    $paths = glob($inbox . '/*.json');
    usort($paths, fn (string $one, string $other): int => filemtime($one) <=> filemtime($other));
    foreach ($paths as $path) {
        $mark = substr($path, 0, -strlen('.json')) . '.done';
        clearstatcache();
        if (file_exists($mark)) {
            continue;
        }
        try {
            handle(json_decode(file_get_contents($path), true, 512, JSON_THROW_ON_ERROR));
            touch($mark);
        } catch (Exception $error) {
            fwrite(STDERR, "$path could not be handled; it is tried again: {$error->getMessage()}\n");
        }
    }
    usleep(200_000);
}

// Yours: here is time for what takes long.
function handle(array $event): void
{
    usleep((int) (1_000_000 * (float) (getenv('WORK_SECONDS') ?: 0)));
    echo "handled {$event['id']} {$event['event_name']}\n";
}
