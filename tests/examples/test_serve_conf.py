"""The example configuration is plain data under names that a reader may copy."""

import runpy
from pathlib import Path

import pytest

CONF = Path(__file__).resolve().parents[2] / "examples" / "serve.conf.py"


@pytest.fixture
def conf():
    names = runpy.run_path(str(CONF))
    return {name: value for name, value in names.items() if not name.startswith("__")}


def test_every_setting_is_plain_data(conf):
    assert conf, "the file sets nothing"
    for name, value in conf.items():
        assert isinstance(value, (str, int, float, bool, list)), name


def test_it_listens_on_this_machine_only(conf):
    assert conf["bind"].startswith("127.0.0.1:")
