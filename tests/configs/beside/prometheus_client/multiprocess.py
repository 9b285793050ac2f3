def mark_process_dead(pid):
    """What the real one does needs its files."""
    assert isinstance(pid, int)
