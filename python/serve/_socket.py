"""The client's connection, for an application that speaks another protocol on it."""

import contextlib
import os
import socket

#: What needs the connection itself.
USES = (
    *("detach", "fileno", "getblocking", "getpeername", "getsockname", "getsockopt", "gettimeout"),
    *("ioctl", "makefile", "recv", "recv_into", "recvfrom", "recvfrom_into", "recvmsg"),
    *("recvmsg_into", "send", "sendall", "sendfile", "sendmsg", "sendto"),
    *("setblocking", "setsockopt", "settimeout", "shutdown"),
)


class Connection(socket.socket):
    """A socket that is the server's until it is used, and the application's from then on.

    `take` gives the descriptor and what the client has sent on it after the request.
    """

    def __new__(cls, take):
        return super().__new__(cls)

    def __init__(self, take):
        self._take = take
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
        descriptor, early = self._take()
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

    def dup(self):
        copy = os.dup(self.fileno())
        return socket.socket(self.family, self.type, self.proto, fileno=copy)

    def over(self):
        """The request has ended: nothing more is sent, and whoever still reads finds the end."""
        if self._take is not None:
            self._closed = True
            return
        with contextlib.suppress(OSError):  # The client or the application was first.
            super().shutdown(socket.SHUT_RDWR)


def using(name):
    method = getattr(socket.socket, name)

    def use(self, *args, **kwargs):
        self.own()
        return method(self, *args, **kwargs)

    use.__name__ = name
    return use


for name in USES:
    if name not in vars(Connection) and hasattr(socket.socket, name):
        setattr(Connection, name, using(name))
