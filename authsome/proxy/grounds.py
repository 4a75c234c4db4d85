"""What a run brings along, as a worker tells it to the process of its full engine.

Rule: what opens something stays with the worker: neither the run's secret nor its password is told, nor how to ask the
daemon. There a run is a name, and whatever is wanted for it is asked of the worker.
"""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Final, cast

from authsome.address import Address, AddressPolicy
from authsome.outbound import Outbound
from authsome.proxy import rules
from authsome.proxy.rules import Lease, Unmatched
from authsome.proxy.tenancy import Ground, Source
from authsome.secret import Secret

_UNTOLD: Final = Secret("")


def to_json(ground: Ground) -> dict[str, object]:
    """What is told of a run."""
    lease, outbound, policy = ground.lease, ground.outbound, ground.tunnel_policy
    return {
        "run": lease.run,
        "expires_at": lease.expires_at.isoformat() if lease.expires_at else None,
        "unmatched": lease.unmatched,
        "routes": rules.table_to_json(ground.table),
        "trust": str(ground.trust),
        "proxy": outbound.proxy,
        "proxy_authorization": outbound.authorization.reveal() if outbound.authorization else None,
        "exempt": outbound.exempt,
        "allow_private": policy.allow_private,
        "allow_intranet": policy.allow_intranet,
    }


def from_json(told: Mapping[str, object], source: Source) -> Ground:
    """Read what `to_json` wrote, for a process that asks `source`."""
    expires_at, proxy, authorization = told["expires_at"], told["proxy"], told["proxy_authorization"]
    return Ground(
        lease=Lease(
            run=str(told["run"]),
            secret=_UNTOLD,
            password=_UNTOLD,
            expires_at=datetime.fromisoformat(str(expires_at)) if expires_at else None,
            unmatched=Unmatched(str(told["unmatched"])),
        ),
        table=rules.table_from_json(told["routes"]),
        source=source,
        trust=Path(str(told["trust"])),
        outbound=Outbound(
            proxy=Address(*cast("tuple[str, int]", proxy)) if proxy else None,
            authorization=Secret(str(authorization)) if authorization is not None else None,
            exempt=tuple(cast("list[str]", told["exempt"])),
        ),
        tunnel_policy=AddressPolicy(
            allow_private=told["allow_private"] is True, allow_intranet=told["allow_intranet"] is True
        ),
    )
