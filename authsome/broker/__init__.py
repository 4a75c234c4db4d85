"""The broker: the use cases, on top of the vault and the protocols."""
