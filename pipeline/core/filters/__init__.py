"""Filters of endpoints: expressions in the Common Expression Language over ``event`` and ``data``, all of which must hold.

Pure. Uses a CEL library, and nothing else of `pipeline`. Start reading in `expression.py`, then `evaluation.py`.
"""
