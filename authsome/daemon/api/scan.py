"""Endpoints for `scan`: what to look for, and whether what was found is stored."""

import base64
import binascii
from typing import Final

from authsome.broker.scan import Candidate, KeyForm
from authsome.daemon.api import views
from authsome.daemon.api.call import Call, Endpoints, Handler
from authsome.daemon.messages import Response, json_response
from authsome.daemon.router import Access, Endpoint
from authsome.errors import RequestInvalid
from authsome.models.fingerprint import KEY_BYTES

MOST_CANDIDATES: Final = 500  # of one question; a project has a handful
_FORM: Final = views.shape(
    {
        "provider": views.TEXT,
        "field": views.TEXT,
        "secret": views.BOOLEAN,
        "variables": views.TEXT_MAP,
        "pattern": views.OPTIONAL_TEXT,
        "hosts": views.TEXTS,
        "importable": views.BOOLEAN,
    }
)
_CANDIDATE: Final = views.shape({"provider": views.TEXT, "likeness": views.TEXT})


class ScanApi(Endpoints):
    """What a scan asks."""

    def endpoints(self) -> tuple[Endpoint[Handler], ...]:
        """See `Endpoints`."""
        return (
            Endpoint(
                method="GET",
                template="/scan",
                handler=self.forms,
                access=Access.PROOF,
                summary="How the keys of the providers look, and in which variables they lie; with their placeholders",
                response=views.shape({"keys": views.array(_FORM)}),
            ),
            Endpoint(
                method="POST",
                template="/scan",
                handler=self.compare,
                access=Access.PROOF,
                summary="Which connections hold what was found, by its HMAC-SHA256 under the base64 `key`; audited",
                request=views.shape({"key": views.TEXT, "candidates": views.array(_CANDIDATE)}),
                response=views.shape(
                    {"answers": views.array(views.shape({"same": views.TEXTS, "others": views.TEXTS}))}
                ),
            ),
        )

    def forms(self, _call: Call) -> Response:
        """GET /scan."""
        return json_response({"keys": [_form(each) for each in self._broker.scan.forms()]})

    def compare(self, call: Call) -> Response:
        """POST /scan."""
        body = call.request.json()
        key = _key(body.text("key"))
        candidates = []
        for each in body.objects("candidates"):
            candidates.append(Candidate(each.text("provider"), each.text("likeness")))
            each.done()
        body.done()
        if len(candidates) > MOST_CANDIDATES:
            raise RequestInvalid(f'field "candidates" has more than {MOST_CANDIDATES} entries')
        found = self._broker.scan.compare(call.caller, key, candidates)
        return json_response({"answers": [{"same": list(each.same), "others": list(each.others)} for each in found]})


def _key(text: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise RequestInvalid(f'field "key" must be {KEY_BYTES} bytes of base64')
    return key


def _form(form: KeyForm) -> views.JsonObject:
    places = [place.fixed for place in form.provider.places if place.fixed is not None]
    return {
        "provider": form.provider.name,
        "field": form.field,
        "secret": form.is_secret,
        "variables": dict(form.placeholders),
        "pattern": form.pattern,
        "hosts": [f"*.{place.host}" if place.is_suffix else place.host for place in places],
        "importable": form.is_importable,
    }
