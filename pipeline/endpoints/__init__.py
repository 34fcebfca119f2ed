"""The endpoint registry over the compacted topic."""
