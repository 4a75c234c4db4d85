"""Limits as a form gave them."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from authsome.daemon.dashboard.limits import KEEP, NAMES, PERIODS
from authsome.daemon.fields import FORM_LIMIT, Fields
from authsome.errors import RequestInvalid
from authsome.models import limits
from authsome.models.limits import Limits


def read(form: Fields, *more: str) -> dict[str, str]:
    """What was filled in, however long it is, and `more` fields of the same form."""
    given = {name: form.optional_text(name, most=FORM_LIMIT) or "" for name in NAMES}
    return given | {name: form.optional_text(name) or "" for name in more}


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
        connections=given["connections"].replace(",", " ").split() or None,
        methods=given["methods"].replace(",", " ").split() or None,
        expires_at=end,
    )
