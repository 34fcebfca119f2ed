"""The dashboard: the pages below ``/webhooks``, made on the server. They do what the HTTP API does.

`page_table.py` lists every page; templates and static files are in `pipeline/web`.
Begin with `page.py` (how a page is declared) and `attempt_list.py`.
"""
