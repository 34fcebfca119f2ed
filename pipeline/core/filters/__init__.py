"""Filters of endpoints: expressions of the Common Expression Language over ``event`` and ``data``, all of which must hold."""
