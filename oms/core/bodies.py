"""Bodies that come without their length, or with too much of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any

#: bytes of a refused body that are read; who sends more sees the connection end
READ_AWAY = 64 * 2**20

Application = Callable[..., Iterable[bytes]]


class Measured:
    """Gives a body sent in chunks its length before Django looks at it: without one Django takes it for empty.

    Some HTTP clients send every JSON body so. One that is bigger than `most` bytes is cut one byte behind it, which
    Django then refuses as too big. Forms with files are left alone: a cut one could pass for a whole one.
    """

    def __init__(self, application: Application, most: int) -> None:
        self.application = application
        self.most = most

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        chunked = "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower()
        form = environ.get("CONTENT_TYPE", "").lower().startswith("multipart/")
        if chunked and not form and not environ.get("CONTENT_LENGTH"):
            body = environ["wsgi.input"].read(self.most + 1)
            environ["wsgi.input"] = BytesIO(body)
            environ["CONTENT_LENGTH"] = str(len(body))
        answer = self.application(environ, start_response)
        length = environ.get("CONTENT_LENGTH") or "0"
        if not form and length.isdecimal() and int(length) > self.most:
            _read_away(environ["wsgi.input"])
        return answer


def _read_away(body: Any) -> None:
    """Take what is left of a body that was refused for its size, up to a limit, and forget it.

    Many clients write all of it before they read the answer: without this they see a broken connection, never the 413.
    """
    left = READ_AWAY
    while left > 0 and (part := body.read(min(left, 65536))):
        left -= len(part)
