"""Certificates as tests need them, made by the command `openssl`, and clients that check them."""

import ssl
import subprocess
from pathlib import Path

#: What no machine's own configuration of OpenSSL can change.
CONFIG = """
[req]
distinguished_name = name
prompt = no
[name]
CN = {name}
[authority]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign
[server]
subjectAltName = DNS:localhost, IP:127.0.0.1
[client]
extendedKeyUsage = clientAuth
[none]
"""
CURVE = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


class Authority:
    """Signs certificates: NAME.pem with NAME.key, in a folder."""

    def __init__(self, folder, name="authority"):
        self.folder = Path(folder)
        self.pem = self._make(name, "authority")

    def server(self, name="server"):
        """A certificate for localhost."""
        return self._make(name, "server", signed=True)

    def client(self, name="client"):
        return self._make(name, "client", signed=True)

    def first_version(self, name="first"):
        """A client's certificate of X.509 version 1, which has no extensions."""
        usage = subprocess.run(["openssl", "req", "-help"], capture_output=True, text=True)
        # Where there is an option for it, version 3 is what is made otherwise.
        options = ["-x509v1"] if "-x509v1" in usage.stdout + usage.stderr else []
        return self._make(name, "none", *options, signed=True)

    def _make(self, name, extensions, *options, signed=False):
        pem, config = self.folder / f"{name}.pem", self.folder / f"{name}.cnf"
        config.write_text(CONFIG.format(name=name))
        command = ["req", "-x509", "-config", config, "-extensions", extensions, *CURVE]
        command += options
        if signed:
            command += ["-CA", self.pem, "-CAkey", self.pem.with_suffix(".key")]
        openssl(*command, "-days", "2", "-out", pem, "-keyout", pem.with_suffix(".key"))
        return pem

    def trust(self, version=None, client=None):
        """A client that trusts this authority. It takes an end without close_notify for an error,
        and `client` is the certificate that it shows."""
        context = ssl.create_default_context(cafile=self.pem)
        # Of Python 3.11's first versions, OpenSSL is told to take it for none.
        context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
        context.set_alpn_protocols(["h2", "http/1.1"])
        if version is not None:
            context.minimum_version = context.maximum_version = version
        if client is not None:
            context.load_cert_chain(client, client.with_suffix(".key"))
        return context


def secured(context, connection, **options):
    """A connection, after the handshake."""
    return context.wrap_socket(
        connection, server_hostname="localhost", suppress_ragged_eofs=False, **options
    )


class Dripping:
    """The same over a socket whose bytes are sent `step` at a time, each in a packet of its own."""

    def __init__(self, context, connection, step):
        self.socket, self.step = connection, step
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        self._do(self._tls.do_handshake)

    def sendall(self, data):
        self._do(self._tls.write, data)

    def recv(self, size):
        return self._do(self._tls.read, size)

    def _do(self, act, *arguments):
        while True:
            try:
                result = act(*arguments)
            except ssl.SSLWantReadError:
                self._push()
                piece = self.socket.recv(self.step)
                if piece:
                    self._incoming.write(piece)
                else:
                    self._incoming.write_eof()
            else:
                self._push()
                return result

    def _push(self):
        data = self._outgoing.read()
        for at in range(0, len(data), self.step):
            self.socket.sendall(data[at : at + self.step])
