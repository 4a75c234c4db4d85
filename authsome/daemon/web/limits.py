"""Limits as a form gave them."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from authsome.daemon.dashboard.limits import KEEP, PERIODS
from authsome.errors import RequestInvalid
from authsome.models import limits
from authsome.models.limits import Limits


def of_form(given: Mapping[str, str], now: datetime, present: Limits | None = None) -> Limits:
    """What was filled in, where each empty field limits nothing; `present` are limits whose end can be kept.

    Raises:
        RequestInvalid: a pattern or a method is malformed, or there is no such period.
    """
    hours = given["hours"]
    if hours == KEEP and present is not None and present.expires_at is not None:
        end: datetime | None = present.expires_at
    elif hours in PERIODS:
        end = now + timedelta(hours=int(hours)) if hours else None
    else:
        raise RequestInvalid("there is no such period")
    return limits.parse(
        connections=given["connections"].split() or None,
        methods=given["methods"].replace(",", " ").split() or None,
        expires_at=end,
    )
