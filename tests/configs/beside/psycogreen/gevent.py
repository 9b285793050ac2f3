def patch_psycopg():
    """What the real one does needs psycopg."""
