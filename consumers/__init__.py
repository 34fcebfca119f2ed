"""The hops, one file each, and the composition root (roles, cli)."""
