"""The dashboard: the pages below ``/webhooks``, made on the server. Their operations are those of the HTTP API."""
