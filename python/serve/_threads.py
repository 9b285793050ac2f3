"""The threads of `-k threads`: started as Python's own, so that an application, a debugger and a
profiler find what they expect.
"""

import sys
import threading

#: So many threads may all compute at once, and yet each gets its turn soon. More of them
#: would do little but take turns: 32 computed half as much as with Python's own interval.
FEW = 8

#: What sys.setswitchinterval() had last, unless the application has changed it since.
interval = 0.005


def check(stack_size):
    """Raises ValueError if the system has no stacks of this size."""
    threading.stack_size(threading.stack_size(stack_size))


def start(name, work, stack_size, count):
    """Starts the thread that makes them `count`."""
    adapt(count)
    before = threading.stack_size(stack_size)
    try:
        threading.Thread(target=work, name=name, daemon=False).start()
    finally:
        threading.stack_size(before)


def adapt(count):
    """How long a thread keeps the interpreter while others want it.

    Briefly, if they are few: a request that computes must not hold up all others. Each of those
    that wait wakes up once per interval, so with many of them it must be long.
    """
    global interval
    if sys.getswitchinterval() == interval:
        sys.setswitchinterval(0.0005 if count <= FEW else 0.005 if count <= 300 else 0.05)
        interval = sys.getswitchinterval()
