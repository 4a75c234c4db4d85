"""Identities: Ed25519 keys, their did:key names, and the proof that a caller holds one. Pure: no I/O."""
