def mark_process_dead(pid):
    """What the real one does needs its files."""
    print(f"dead: {pid:d}", flush=True)
