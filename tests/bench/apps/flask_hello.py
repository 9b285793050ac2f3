"""Hello from Flask, at once and after a while."""

import time

from flask import Flask

app = Flask(__name__)


@app.get("/")
def hello():
    return "Hello, world!\n"


@app.get("/io")
def io():
    time.sleep(0.1)
    return "Hello, world!\n"
