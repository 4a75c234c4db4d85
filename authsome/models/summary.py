"""What a catalogue shows of each provider: little, so that it can be had of all of them at once.

Rule: a bundled definition is believed, since tests hold each to say the same when it is read whole; that costs ten
times as much.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from authsome.models.login import Flow
from authsome.models.provider import Provider


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A provider in a list."""

    title: str
    """Its display name."""
    description: str | None
    flows: tuple[Flow, ...]
    """As `Provider.flows`."""


def of(provider: Provider) -> Summary:
    """The summary of a definition that was read whole."""
    return Summary(title=provider.display_name, description=provider.description, flows=provider.flows)


def of_document(document: Mapping[str, object]) -> Summary | None:
    """The summary of a bundled definition, from its JSON; None for one that leaves to be derived what others say."""
    title, description, flow = (document.get(name) for name in ("display_name", "description", "flow"))
    oauth = document.get("oauth")
    if not isinstance(title, str) or not isinstance(description, str | None) or flow not in set(Flow):
        return None
    offered = list(_oauth_flows(oauth)) if isinstance(oauth, dict) else []
    offered += [Flow.API_KEY] if "api_key" in document else []
    usual = Flow(str(flow))
    return Summary(
        title=title, description=description, flows=(usual, *(each for each in offered if each is not usual))
    )


def _oauth_flows(oauth: Mapping[str, object]) -> Iterator[Flow]:
    is_found_later = not oauth.get("token_url")
    for flow, names in (
        (Flow.PKCE, ("authorization_url",)),
        (Flow.DCR_PKCE, ("registration_endpoint", "client_id_metadata_document")),
        (Flow.DEVICE_CODE, ("device_authorization_url",)),
    ):
        if is_found_later or any(oauth.get(name) for name in names):
            yield flow
    if oauth.get("client_credentials"):
        yield Flow.CLIENT_CREDENTIALS
