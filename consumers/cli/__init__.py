"""The command line, one file per group of commands.

Commands that need a running pipeline call its HTTP API (`api_client.py`). The others build what they need with `consumers.wiring`.
Start reading in `app.py`.
"""
