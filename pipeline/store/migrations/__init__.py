"""The tables: one statement per file, applied in the order of their names by `pipeline.store.migrate`. Never edit an applied one.

SQL only, so it uses nothing. Start reading in `0001_events.sql` and `0002_attempts.sql`.
"""
