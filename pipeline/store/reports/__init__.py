"""Reports other than searches: timelines of orders, overviews, failed notifications, replays.

Everything here only reads, within a budget of time and memory. Uses the connection and `core`.
Start reading in `timeline.py`.
"""
