"""The parts that the consumers are made of; see the layers in pyproject.toml (import-linter)."""
