"""``python -m consumers`` is ``oms-webhooks``."""

from consumers.cli import main

main()
