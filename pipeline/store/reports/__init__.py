"""Reads beside the search: timelines of orders, overviews, failed notifications, replays.

Everything here reads, within a budget of time and memory.
Begin with `timeline.py`.
"""
