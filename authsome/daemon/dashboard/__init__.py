"""What a browser sees: pages, their templates and style."""
