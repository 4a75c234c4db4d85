"""Checks a store by content: for the daemon's start and `doctor`, where each start of a command checks sizes only."""

import hashlib
import os

from authsome.archive import boot


def problems(store: str) -> list[str]:
    """One line for each file under `store` that is damaged, missing or foreign."""
    try:
        expected = {path: digest for digest, _, path in (line.split(" ", 2) for line in boot.read_listing(store))}
    except (OSError, ValueError) as error:
        return [f"the list of unpacked files is unreadable: {error}"]
    found = []
    for path, digest in sorted(expected.items()):
        try:
            with open(f"{store}/{path}", "rb") as file:
                data = file.read()
        except OSError as error:
            found.append(f"{store}/{path} cannot be read: {(error.strerror or str(error)).lower()}")
        else:
            if hashlib.sha256(data).hexdigest() != digest:
                found.append(f"{store}/{path} is damaged")
    for directory, _, files in os.walk(store):
        present = (os.path.relpath(f"{directory}/{file}", store) for file in files)
        found += [
            f"{store}/{path} does not belong there" for path in present if path not in expected | {boot.LISTING: ""}
        ]
    return found
