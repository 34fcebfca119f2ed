"""The tables, one statement a file, applied in the order of their names by pipeline.store.migrate. Never edit an applied one."""
