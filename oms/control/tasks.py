"""Background work of the top floor. Loading this module names the job handlers."""

from __future__ import annotations

from oms.control.imports import running

__all__ = ["running"]
