"""Tests of what several classes of workers promise run once for each."""

#: Without names of its own, what `every_class` means.
USUAL = ("sync", "threads")


def pytest_generate_tests(metafunc):
    marker = metafunc.definition.get_closest_marker("every_class")
    if marker and "serve" in metafunc.fixturenames:
        metafunc.parametrize("serve", marker.args or USUAL, indirect=True)


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "every_class(*names): run with the `serve` of each of these classes of workers"
    )
