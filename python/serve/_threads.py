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

#: Threads.
count = 0

#: Whether requests compute while others wait.
haste = False


def check(stack_size):
    """Raises ValueError if the system has no stacks of this size."""
    threading.stack_size(threading.stack_size(stack_size))


def start(name, work, stack_size, number):
    """Starts the thread that makes them so many."""
    global count
    count = number
    adapt()
    before = threading.stack_size(stack_size)
    try:
        threading.Thread(target=work, name=name, daemon=False).start()
    finally:
        threading.stack_size(before)


def hasten(now):
    """Has threads give the interpreter up sooner from now on, or no longer."""
    global haste
    haste = now
    adapt()


def adapt():
    """How long a thread keeps the interpreter while others want it.

    Briefly, if one of a few computes: it must not hold up all others. Each of those that wait wakes
    up once per interval, so it is longer where requests are quick, and long where threads are many.
    """
    global interval
    if sys.getswitchinterval() == interval:
        brief = haste and count <= FEW
        sys.setswitchinterval(0.0005 if brief else 0.005 if count <= 300 else 0.05)
        interval = sys.getswitchinterval()
