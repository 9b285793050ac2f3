"""A server as the process tests see it, and the applications that several of them serve."""

import os
import re

from harness import Server, read_stat, wait_until

#: Answers with its own pid.
WHO = """
    import os

    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(os.getpid()).encode()]
"""

#: Answers with its own pid; /wait says "began" on stdout and stays until the test opens the gate.
GATED = """
    import os

    def app(environ, start_response):
        if environ["PATH_INFO"] == "/wait":
            print("began", os.getpid(), flush=True)
            open("gate").close()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(os.getpid()).encode()]
"""


class Process(Server):
    """A server, with a few things that only tests of processes ask for."""

    def gate(self):
        """Makes the FIFO that GATED waits at."""
        os.mkfifo(self.cwd / "gate")
        return self

    def open_gate(self):
        """Lets the request that waits go on."""
        found = []

        def somebody_waits():
            try:
                found.append(os.open(self.cwd / "gate", os.O_WRONLY | os.O_NONBLOCK))
            except OSError:
                return False
            return True

        wait_until(somebody_waits, "a request to wait at the gate")
        os.close(found[0])

    def mold_pids(self):
        """Pids of the molds alive: children of the master that no line calls a worker."""
        workers = set(re.findall(r"worker=\d+ pid=(\d+)", self.log.text()))
        children = [pid for pid in self.session() if (read_stat(pid) or {}).get("ppid") == self.pid]
        return [pid for pid in children if str(pid) not in workers]

    def workers_of(self, generation):
        """Pids of the workers alive of one generation."""
        named = re.findall(rf"worker=\d+ pid=(\d+) gen={generation} ready", self.log.text())
        return [pid for pid in map(int, named) if self.is_part(pid)]

    def served_by(self):
        """The pid of the worker that answers (WHO, GATED)."""
        status, _, body = self.get("/")
        assert status == 200
        return int(body)

    def still_alone(self):
        """That the server's end was the end of every one of its processes."""
        assert not self.session(), "processes are left"
