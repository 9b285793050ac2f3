"""Starts a server that has no command line: `python launch.py SERVER MODULE:ATTRIBUTE PORT`."""

import importlib
import sys


def bjoern(app, port):
    import bjoern

    bjoern.run(app, "127.0.0.1", port)


def cheroot(app, port):
    from cheroot.wsgi import Server

    Server(("127.0.0.1", port), app).start()


def fastwsgi(app, port):
    import fastwsgi

    fastwsgi.run(app, "127.0.0.1", port)


if __name__ == "__main__":
    server, spec, port = sys.argv[1:]
    module, attribute = spec.split(":")
    app = getattr(importlib.import_module(module), attribute)
    {"bjoern": bjoern, "cheroot": cheroot, "fastwsgi": fastwsgi}[server](app, int(port))
