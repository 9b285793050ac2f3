"""What a sequence of reads gives; used by the application, and by the test on a real file."""

import hashlib


def perform(stream, steps):
    """What each step gives: a method of the stream and its arguments, or `iter` or `next`."""
    results = []
    for name, *arguments in steps:
        if name == "iter":
            found = list(stream)
        elif name == "next":
            found = next(iter(stream), None)
        else:
            found = getattr(stream, name)(*arguments)
        results.append(shown(found))
    return results


def shown(found):
    """Bytes as something that fits into an answer and still tells any difference."""
    if isinstance(found, list):
        assert all(type(line) is bytes for line in found)
        lengths = ",".join(str(len(line)) for line in found)
        return [len(found), digest(lengths.encode()), shown(b"".join(found))]
    if found is None:
        return None
    assert type(found) is bytes
    return found.decode("latin-1") if len(found) <= 100 else [len(found), digest(found)]


def digest(data):
    return hashlib.sha256(data).hexdigest()
