"""``python -m consumers`` is ``oms-webhooks``."""

from consumers.cli.entry import main

main()
