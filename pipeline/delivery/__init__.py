"""One attempt from end to end: sign, POST, record, and schedule the repeat. Shared by the fan-out, the retry and the API."""
