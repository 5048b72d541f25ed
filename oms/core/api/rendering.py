"""Answers as JSON, after which a request leaves nothing behind."""

from __future__ import annotations

from typing import Any

from rest_framework.renderers import JSONRenderer


class TidyJSONRenderer(JSONRenderer):
    """Lets go of the view once its answer is text.

    View, request and answer point at each other, and so everything that a page has read waits for the collector,
    which then stops somebody else's request for a tenth of a second.
    """

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Any = None,
    ) -> bytes:
        text: bytes = super().render(data, accepted_media_type, renderer_context)
        if renderer_context:
            view = renderer_context.get("view")
            renderer_context.clear()
            if view is not None:
                view.request.parser_context.clear()
                vars(view).clear()
        return text
