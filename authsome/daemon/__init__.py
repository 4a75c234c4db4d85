"""The daemon: HTTP server, router, pages; what the use cases look like from outside."""
