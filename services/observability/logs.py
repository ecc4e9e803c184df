"""Structured logs: one JSON line per event, on stderr unless told otherwise."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog


def configure(process: str, output: TextIO | None = None) -> None:
    """Set up structlog for this process; every line carries its name."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(output or sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)
