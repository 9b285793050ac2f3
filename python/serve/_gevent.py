"""What the greenlet driver asks of gevent.

`patch` runs in the mold, before anything of the application is imported, and `forked` in each
worker. A worker then has one `Hub`, made by its main greenlet. Its greenlets are reused: making
one costs several times as much as all else that a short request needs.
"""

import importlib.util
from sys import getrefcount

#: What a parked greenlet is told.
RUN, END = object(), object()

#: So often (seconds) the idle greenlets are counted, and so many are always kept.
SHRINK, SPARE = 2, 16


def is_installed():
    return importlib.util.find_spec("gevent") is not None


def patch():
    """From now on, the standard library waits in greenlets."""
    from importlib import metadata

    from gevent import monkey

    # gevent asks for its plugins before and after each module, and each answer reads all that is
    # installed: with fifty packages that was a third of what a start costs.
    ask, installed = metadata.entry_points, metadata.entry_points()
    metadata.entry_points = installed.select
    try:
        monkey.patch_all()
    finally:
        metadata.entry_points = ask


def forked():
    """The loop that a preloaded application may have begun is a loop of this process's own."""
    import gevent

    gevent.reinit()


class Hub:
    """The hub, as the driver in Rust uses it.

    Of `looper`, `turn` is called in the hub whenever the descriptor `fd` is readable, and `due`
    when the timer is. `serve` is called in a greenlet, with that greenlet, for the request that
    `begin` announces; it goes on with those that follow, unless that one has waited.
    """

    def __init__(self, fd, looper):
        import gevent

        self.hub = gevent.get_hub()
        self.main = gevent.getcurrent()
        self.current = gevent.getcurrent
        self.due = looper.due
        self.timer = None
        # libuv counts in milliseconds, and gevent warns of less.
        self.least = 0.001 if "libuv" in type(self.hub.loop).__module__ else 0
        self.watcher = self.hub.loop.io(fd, 1)
        self.watcher.start(looper.turn)
        self.begin, shrink = pool(self.hub, looper.serve)
        self.shrinker = self.hub.loop.timer(SHRINK, repeat=SHRINK)
        self.shrinker.start(shrink)

    def wait(self):
        """Called by the main greenlet: returns when `attend` is called."""
        self.hub.switch()

    def attend(self):
        """Called in the hub: the main greenlet runs until it waits again."""
        self.main.switch()

    def arm(self, seconds):
        """The next turn comes after so many seconds at the latest."""
        self.disarm()
        if seconds > 0:
            self.timer = self.hub.loop.timer(max(seconds, self.least))
            self.timer.start(self.due, update=True)
        else:
            self.hub.loop.run_callback(self.due)

    def disarm(self):
        if self.timer is not None:
            self.timer.close()
            self.timer = None

    def pause(self):
        """The greenlet that calls waits until it is resumed; False in the hub, which cannot."""
        if self.current() is self.hub:
            return False
        self.hub.switch()
        return True

    def close(self):
        """No more turns. The descriptor may be closed after this."""
        self.disarm()
        self.shrinker.close()
        self.watcher.close()


def pool(hub, serve):
    """Returns the functions `begin`, to be called in the hub for each request, and `shrink`."""
    from gevent import Greenlet, getcurrent

    idle = []
    wait = hub.switch
    #: References to a parked greenlet that nobody else knows.
    own = None

    def run():
        me = getcurrent()
        told = RUN
        while told is not END:
            if told is RUN:
                serve(me)
                idle.append(me)
            try:
                told = wait()
            except BaseException:  # meant for a request that has ended, or the end of it all
                if me in idle:
                    idle.remove(me)
                return

    def begin():
        while idle:
            greenlet = idle.pop()
            # Whoever else knows it may throw something into it that is meant for an earlier
            # request: a timeout that was never cancelled, for example.
            if getrefcount(greenlet) == own:
                return greenlet.switch(RUN)
            greenlet.switch(END)
        Greenlet(run).switch()

    def shrink():
        """Gives memory back that was for a crowd, without haste: there may be another one."""
        count = (len(idle) - SPARE + 7) // 8
        if count > 0:
            ended = idle[:count]
            del idle[:count]
            for greenlet in ended:
                greenlet.switch(END)

    def count():
        """Looks at a greenlet that has found nothing to serve, just as `begin` looks at one."""
        nonlocal own
        Greenlet(run).switch()
        greenlet = idle.pop()
        own = getrefcount(greenlet)
        greenlet.switch(END)

    hub.loop.run_callback(count)
    return begin, shrink


def stack(greenlet):
    """Where a greenlet waits, as faulthandler would write it."""
    lines, frame = [], greenlet.gr_frame
    while frame is not None:
        code = frame.f_code
        lines.append(f'  File "{code.co_filename}", line {frame.f_lineno} in {code.co_name}')
        frame = frame.f_back
    return "\n".join(["Greenlet of the request (most recent call first):", *lines])
