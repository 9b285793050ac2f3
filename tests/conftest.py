"""Tests of what every class of workers promises run once for each."""

from harness import CLASSES


def pytest_generate_tests(metafunc):
    if "serve" in metafunc.fixturenames and metafunc.definition.get_closest_marker("every_class"):
        metafunc.parametrize("serve", CLASSES, indirect=True)


def pytest_configure(config):
    config.addinivalue_line("markers", "every_class: run with the `serve` of each class of workers")
