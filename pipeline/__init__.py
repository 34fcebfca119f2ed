"""What the consumers are made of. Data flows one way through the packages below.

devtools → web → delivery → endpoints → broker, sender, store → ops → core; import-linter holds it (pyproject.toml).
Begin with `pipeline.delivery`: one attempt from end to end.
"""
