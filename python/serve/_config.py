"""Evaluates a configuration written in Python, and tells what it says.

Runs once per generation, in the mold. The result is JSON, because the master
that decides knows no Python: the values, and where in the file each was set. All names stay here,
for the hooks among them.
"""

import ast
import contextlib
import importlib
import inspect
import json
import math
import os
import re
import sys
import traceback
import types

PLAIN = (str, int, bool, type(None))


class Refusal(Exception):
    """Why there is no configuration: (exit code, sentence, traceback or '')."""


def evaluate_file(path, directory):
    """Runs the file at `path`; it may import what is in `directory`."""
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
        with importable(directory):
            exec(compile(source, path, "exec"), names)
    except BaseException as error:
        raise Refusal(2, refused(path, error), trace(error)) from None
    return report(names, source), names


def evaluate_module(name, directory):
    """Imports the module `name`, as `python:NAME` asks for."""
    try:
        with importable(directory):
            module = importlib.import_module(name)
    except BaseException as error:
        text = f"the configuration python:{name}: {type(error).__name__}: {error}"
        raise Refusal(2, text, trace(error)) from None
    try:
        source = inspect.getsource(module)
    except (OSError, TypeError):
        source = ""
    return report(vars(module), source), vars(module)


@contextlib.contextmanager
def importable(directory):
    """Last on sys.path: a file there must not pass for a module of Python's own."""
    sys.path.append(directory)
    try:
        with aside():
            yield
    finally:
        sys.path.remove(directory)


@contextlib.contextmanager
def aside():
    """What is printed meanwhile goes to stderr, since stdout may be what --print-config shows.

    The descriptor is changed and not sys.stdout, which the file may keep for its log handlers.
    """
    try:
        kept = os.dup(1)
        os.dup2(2, 1)
    except OSError:  # Closed, so that nobody reads what is printed.
        yield
        return
    try:
        yield
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def report(names, source):
    lines, helpers = places(source)
    public = {name: value for name, value in names.items() if not name.startswith("_")}
    values = {
        name: plain(value)
        for name, value in public.items()
        if not callable(value) and not isinstance(value, types.ModuleType)
    }
    # A class may be named where its import path may.
    values |= {name: import_path(value) for name, value in public.items() if inspect.isclass(value)}
    functions = [name for name, value in public.items() if inspect.isroutine(value)]
    # Imported names are the file's own business, too.
    helpers |= {name for name in public if name not in lines}
    return json.dumps(
        {
            "values": values,
            "functions": functions,
            "lines": lines,
            "helpers": sorted(helpers),
            "annotated": sorted(annotated(source) - names.keys()),
        }
    )


def annotated(source):
    """The names that have an annotation and no value, as `workers: 3` gives one."""
    return {
        node.target.id
        for node in ast.parse(source).body
        if isinstance(node, ast.AnnAssign) and node.value is None and node.simple
    }


def places(source):
    """The line where each name of the file was last set, and the names that it reads itself."""
    lines, read = {}, set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Store):
            read.add(node.id)
    todo = [ast.parse(source)]
    while todo:
        for node in ast.iter_child_nodes(todo.pop()):
            name = getattr(node, "id", None) or getattr(node, "name", None)
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                lines[name] = max(node.lineno, lines.get(name, 0))
                continue  # What is set inside is not the file's.
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                lines[name] = max(node.lineno, lines.get(name, 0))
            if not isinstance(node, (ast.Lambda, ast.comprehension)):
                todo.append(node)
    return lines, read


def plain(value):
    """The value in JSON's terms; of what has none, an object that no setting takes."""
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: plain(item) for key, item in value.items()}
    if inspect.isclass(value) or inspect.isroutine(value):
        return {"a Python object": import_path(value)}
    # Without the address, which another generation's would differ in.
    text = re.sub(r" at 0x[0-9a-f]+", "", repr(value))
    return {"a Python object": f"{type(value).__name__} {text}"[:60]}


def import_path(value):
    return f"{value.__module__}.{value.__qualname__}"


def refused(path, error):
    line = error.lineno if isinstance(error, SyntaxError) else last_line(path, error)
    where = f", line {line}" if line else ""
    text = error.msg if isinstance(error, SyntaxError) else error
    hint = (
        ""
        if path.endswith(".py")
        else "; it is read as Python: name it .toml or .json if it is not"
    )
    if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] == "gunicorn":
        hint = "; leave gunicorn installed, or take out what imports it"
    return f"the configuration file '{path}'{where}: {type(error).__name__}: {text}{hint}"


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
