"""Filters of endpoints: expressions in the Common Expression Language over ``event`` and ``data``, all of which must hold."""
