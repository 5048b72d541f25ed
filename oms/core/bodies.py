"""Bodies that come without their length."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any

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
        return self.application(environ, start_response)
