"""The client's connection, for an application that speaks another protocol on it."""

import contextlib
import os
import socket

#: What needs the connection itself.
USES = (
    *("fileno", "getblocking", "getpeername", "getsockname", "getsockopt", "gettimeout"),
    *("ioctl", "makefile", "recv", "recv_into", "recvfrom", "recvfrom_into", "recvmsg"),
    *("recvmsg_into", "setblocking", "setsockopt", "settimeout", "shutdown"),
)

#: What writes to it without saying how much.
WRITES = ("sendfile", "sendmsg", "sendmsg_afalg", "sendto")


class Connection(socket.socket):
    """A socket that is the server's until it is used, and the application's from then on.

    `take` gives the descriptor, what the client has sent on it after the request, and the voice:
    that is told what the application writes, and says when it may write no more.
    """

    def __new__(cls, take):
        return super().__new__(cls)

    def __init__(self, take):
        self._take = take
        self._voice = None
        self._early = b""
        self._closed = False
        self._io_refs = 0

    def __repr__(self):
        return f"<serve connection {'taken' if self.taken else 'to take'}>"

    @property
    def taken(self):
        return self._take is None

    def own(self):
        if self._take is None:
            return
        if self._closed:
            raise OSError("the request is over")
        descriptor, early, self._voice = self._take()
        self._take = None
        self._early = early
        super().__init__(fileno=descriptor)
        self.setblocking(True)

    def recv(self, size, flags=0):
        self.own()
        if self._early and size > 0:
            data = self._early[:size]
            if not flags & socket.MSG_PEEK:
                self._early = self._early[size:]
            return data
        return super().recv(size, flags)

    def recv_into(self, buffer, nbytes=0, flags=0):
        self.own()
        if not self._early:
            return super().recv_into(buffer, nbytes, flags)
        view = memoryview(buffer).cast("B")
        data = self.recv(nbytes or len(view), flags)
        view[: len(data)] = data
        return len(data)

    def send(self, data, *args, **kwargs):
        """A blocking socket takes all of it, which libraries rely on. gevent's would not, nor
        does one that a signal interrupts.
        """
        self.own()
        view = memoryview(data).cast("B")
        # A WebSocket's client that was told goodbye would not look at more.
        if not self._voice.begin():
            return len(view)
        count = 0
        try:
            while (count := count + super().send(view[count:], *args, **kwargs)) < len(view):
                if self.gettimeout() is not None:
                    break
        finally:
            self._voice.end(bytes(view[:count]))
        return count

    def sendall(self, data, flags=0):
        view = memoryview(data).cast("B")
        while view:
            view = view[self.send(view, flags) :]

    def dup(self):
        self.own()
        self._voice.lose()
        copy = os.dup(self.fileno())
        return socket.socket(self.family, self.type, self.proto, fileno=copy)

    def detach(self):
        self.own()
        self._voice.close()
        return super().detach()

    def _real_close(self, *args, **kwargs):
        if self._voice is not None:
            self._voice.close()
        super()._real_close(*args, **kwargs)

    def over(self):
        """The request has ended: nothing more is sent, and whoever still reads finds the end."""
        if self._take is not None:
            self._closed = True
            return
        with contextlib.suppress(OSError):  # The client or the application was first.
            super().shutdown(socket.SHUT_RDWR)
        self._voice.close()


def using(name):
    method = getattr(socket.socket, name)

    def use(self, *args, **kwargs):
        self.own()
        if name in WRITES:
            self._voice.lose()
        return method(self, *args, **kwargs)

    use.__name__ = name
    return use


for name in USES + WRITES:
    if name not in vars(Connection) and hasattr(socket.socket, name):
        setattr(Connection, name, using(name))
