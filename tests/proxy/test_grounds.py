"""What is told of a run: all that its requests are carried by, and nothing that opens anything."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from authsome.address import Address, AddressPolicy
from authsome.models.route import HostPattern, Route, RouteTable
from authsome.outbound import DIRECT, Outbound
from authsome.proxy import grounds
from authsome.proxy.rules import Lease, Unmatched
from authsome.proxy.tenancy import Ground
from authsome.secret import Secret

TABLE = RouteTable(
    routes=(
        Route(
            provider="example",
            connection="work",
            pattern=HostPattern(host="example.com", is_suffix=True, port=8443, path_prefix="/v1/"),
            allow_private_addresses=True,
        ),
    )
)


class Nobody:
    """A source that is not asked."""

    resolve = routes = None


@pytest.mark.parametrize("expires_at", [None, datetime(2030, 1, 1, tzinfo=UTC)])
@pytest.mark.parametrize(
    "outbound",
    [
        DIRECT,
        Outbound(proxy=Address("proxy.example.com", 3128), authorization=Secret("Basic eA=="), exempt=(".corp",)),
    ],
)
def test_what_is_told_is_what_was(expires_at: datetime | None, outbound: Outbound):
    """Everything but the run's secret and its password, which are replaced by nothing."""
    # SEC-141
    source = Nobody()
    ground = Ground(
        lease=Lease(
            run="run-1",
            secret=Secret("canary-secret"),
            password=Secret("canary-password"),
            expires_at=expires_at,
            unmatched=Unmatched.DENY,
        ),
        table=TABLE,
        source=source,  # type: ignore[arg-type]
        trust=Path("/roots.pem"),
        outbound=outbound,
        tunnel_policy=AddressPolicy(allow_intranet=True),
    )
    told = json.dumps(grounds.to_json(ground))
    assert "canary" not in told
    again = grounds.from_json(json.loads(told), source)  # type: ignore[arg-type]
    assert (again.lease.run, again.lease.expires_at, again.lease.unmatched) == ("run-1", expires_at, Unmatched.DENY)
    assert (again.table, again.trust, again.outbound) == (TABLE, Path("/roots.pem"), outbound)
    assert again.source is source
    policy = again.tunnel_policy
    assert (policy.allow_private, policy.allow_intranet) == (False, True)
    assert again.lease.secret.reveal() == again.lease.password.reveal() == ""
