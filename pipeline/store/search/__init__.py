"""Searches for attempts: conditions as SQL, time windows, pages, counts.

Everything here reads, within a budget of time and memory.
Begin with `queries.py`; `find.py` and `time_windows.py` do the work.
"""
