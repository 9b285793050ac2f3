class Logger:
    """The name that configurations derive from."""
