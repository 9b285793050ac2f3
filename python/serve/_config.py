"""Evaluates a configuration file written in Python, and tells what it set.

Runs once per generation, in the mold. The result is JSON, because the master
that decides knows no Python; names that cannot be settings stay here.
"""

import json
import os
import traceback

PLAIN = (str, int, float, bool, type(None))


class Refusal(Exception):
    """Why there is no configuration: (exit code, sentence, traceback or '')."""


def evaluate(path):
    """Runs the file at `path` and returns its plain, public names as JSON."""
    try:
        with open(path, "rb") as file:
            source = file.read()
    except OSError as error:
        raise Refusal(
            2, f"cannot read the configuration file '{path}': {error.strerror}", ""
        ) from None
    names = {
        "__name__": "__config__",
        "__file__": os.path.abspath(path),
        "__builtins__": __builtins__,
    }
    try:
        exec(compile(source, path, "exec"), names)
    except BaseException as error:
        raise Refusal(2, refused(path, error), trace(error)) from None
    return json.dumps({name: plain(value) for name, value in names.items() if setting(name, value)})


def setting(name, value):
    return not name.startswith("_") and is_plain(value)


def is_plain(value):
    if isinstance(value, (list, tuple)):
        return all(is_plain(item) for item in value)
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_plain(item) for key, item in value.items())
    return isinstance(value, (*PLAIN, os.PathLike))


def plain(value):
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


def refused(path, error):
    line = error.lineno if isinstance(error, SyntaxError) else last_line(path, error)
    where = f", line {line}" if line else ""
    text = error.msg if isinstance(error, SyntaxError) else error
    return f"the configuration file '{path}'{where}: {type(error).__name__}: {text}"


def last_line(path, error):
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == path
    ]
    return lines[-1] if lines else None


def trace(error):
    """Only where the sentence does not say it all: the error is in something the file called."""
    frames = traceback.extract_tb(error.__traceback__)
    deep = len(frames) > 2 and not isinstance(error, SyntaxError)
    return (
        "".join(traceback.format_exception(type(error), error, error.__traceback__.tb_next))
        if deep
        else ""
    )
