"""Reads its body as the query says, and tells what it got."""

import hashlib
import json

from routes import app, as_json, query, route
from steps import perform

__all__ = ["app"]


@route
def read(environ, start_response):
    return as_json(start_response, perform(environ["wsgi.input"], json.loads(query(environ))))


@route
def upload(environ, start_response):
    size, sha256 = 0, hashlib.sha256()
    while piece := environ["wsgi.input"].read(65536):
        size += len(piece)
        sha256.update(piece)
    return as_json(start_response, [size, sha256.hexdigest()])
