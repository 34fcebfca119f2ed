"""Structured logs: one JSON object per line, or text for people. Secrets are never passed to a logger."""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure_logs(
    level: Literal["debug", "info", "warning", "error"], style: Literal["json", "console"], worker: str = ""
) -> None:
    """Send our logs and those of the libraries to stderr, in one format; with ``worker``, every line names it."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    if worker:  # not with contextvars, which Kafka's threads would not have
        shared.append(_named(worker))
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if style == "json" else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer]
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_LEVELS[level])
    # At our level, info messages of the libraries are noise, but their warnings are not.
    # kafka.net.transport also logs, with tracebacks, that connections are closed when we close them.
    logging.getLogger("kafka.net.transport").setLevel(logging.CRITICAL)
    # It warns about tasks that a busy machine delayed, with names that contain addresses of objects.
    logging.getLogger("kafka.net.selector").setLevel(logging.ERROR)
    # The library of filter expressions logs the arguments of functions, which may be customers' data.
    logging.getLogger("cel").disabled = True
    # pipeline.store and pipeline.broker configure the loggers of ClickHouse's driver and of kafka.net, which must stay.
    for name in ("kafka", "aiohttp.access", "asyncio", "httpx"):
        logging.getLogger(name).setLevel(max(_LEVELS[level], logging.WARNING))


def _named(worker: str) -> structlog.typing.Processor:
    def add_worker(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event["worker"] = worker
        return event

    return add_worker


def logger(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a module."""
    return structlog.get_logger(name)  # type: ignore[no-any-return]  # works before configure_logs() too
