"""systemd's own opinion of the units, those of examples/deploy and of the guide."""

import re
import shutil
import subprocess

import pytest
from harness import BINARY, ROOT

UNITS = ROOT / "examples" / "deploy" / "systemd"
GUIDE = ROOT / "docs" / "guides" / "systemd.md"

pytestmark = pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="systemd is not installed"
)


def version():
    out = subprocess.check_output(["systemd-analyze", "--version"], text=True)
    return int(re.search(r"systemd (\d+)", out)[1])


def verify(folder, units):
    """What systemd has to say about units, {name: text}; nothing is right."""
    for name, text in units.items():
        # That is where the application would be.
        text = text.replace("/srv/app/.venv/bin/serve", BINARY)
        if version() < 253:
            # As the unit itself says.
            text = text.replace(
                "Type=notify-reload", "Type=notify\nExecReload=/bin/kill -HUP $MAINPID"
            )
        (folder / name).write_text(text)
    command = ["systemd-analyze", "verify", *(folder / name for name in units)]
    done = subprocess.run(command, capture_output=True, text=True)
    said = done.stdout + done.stderr
    # What it thinks of the machine's other units, and of there being no systemd, is their affair.
    return [line for line in said.splitlines() if any(name in line for name in units)]


def test_systemd_takes_the_units(tmp_path):
    units = {path.name: path.read_text() for path in UNITS.iterdir()}
    assert set(units) == {"app.service", "app.socket"}
    assert verify(tmp_path, units) == []


def test_systemd_takes_the_guide_s_unit(tmp_path):
    (unit,) = re.findall(r"```ini\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert verify(tmp_path, {"guide.service": unit}) == []


def test_systemd_would_say_so(tmp_path):
    unit = (UNITS / "app.service").read_text().replace("WatchdogSec=30", "WatchdogSecs=30")
    assert verify(tmp_path, {"wrong.service": unit})
