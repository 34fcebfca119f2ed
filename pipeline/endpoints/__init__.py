"""The registered endpoints in memory, their secrets and their health.

Kept up to date from compacted topics. Uses `broker`, `ops` and `core`.
Start reading in `registry.py`.
"""
