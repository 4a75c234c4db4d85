"""The client tower: signed calls to the daemon, the identity's key, and starting the daemon when there is none."""
