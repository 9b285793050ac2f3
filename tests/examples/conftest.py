"""Loads the example applications. Two of them are called `main`, so each gets a name of its own."""

import importlib.util
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(scope="session")
def load_example():
    """Import `examples/<file>` as the module `name`, with its own folder on the path."""

    def load(name, file):
        path = EXAMPLES / file
        sys.path.insert(0, str(path.parent))  # as the server does
        try:
            spec = importlib.util.spec_from_file_location(name, path)
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module  # ROOT_URLCONF and Flask look it up here
            spec.loader.exec_module(module)
        finally:
            sys.path.remove(str(path.parent))
        return module

    return load
