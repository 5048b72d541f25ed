"""JSON log lines: UTC, request id, actor; secrets masked, newlines escaped by JSON itself."""

from __future__ import annotations

import datetime as dt
import json
import logging
from typing import Any

from oms.core.masking import mask_text, mask_value

#: what every LogRecord carries; anything else came in through `extra`
_STANDARD = set(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "taskName",
    "request",
    "server_time",
    "status_code",
}


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        from oms.core.current import context

        here = context()
        at = dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "at": at.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": mask_text(record.getMessage()),
        }
        if here.request_id:
            line["request_id"] = here.request_id
            line["actor"] = str(here.actor)
        extra = {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if extra:
            line.update(mask_value(extra))
        if record.exc_info:
            line["exception"] = mask_text(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False, default=str)
