"""Searches for attempts: conditions as SQL, time windows, pages, counts.

Everything here only reads, within a budget of time and memory. Uses the connection and `core`.
Start reading in `queries.py`; `find.py` and `time_windows.py` do the work.
"""
