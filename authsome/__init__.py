"""Authsome: a local-first credential broker and vault for AI agents and developer tools."""

__version__ = "0.1.0"
