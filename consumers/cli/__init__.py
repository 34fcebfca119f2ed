"""The command line, one file a group of commands.

Commands that need a running pipeline speak to its HTTP API (`api_client.py`); the others build what they need with `consumers.wiring`.
Begin with `app.py`.
"""
