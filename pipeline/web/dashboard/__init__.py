"""The dashboard: the pages below ``/webhooks``, rendered on the server. They use the same functions as the HTTP API.

`page_table.py` lists every page; templates and static files are in `pipeline/web`.
Start reading in `page.py` (how a page is declared) and `attempt_list.py`.
"""
