"""docs/migrating-from-uwsgi.md names settings that there are, and an example that works."""

import re

from harness import ROOT, run

PAGE = (ROOT / "docs" / "migrating-from-uwsgi.md").read_text()
SETTINGS = (ROOT / "docs" / "reference" / "settings.md").read_text()


def test_the_example_is_taken(tmp_path):
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "serve.toml").write_text(example)
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "wsgi.py").write_text("def application(environ, start_response): ...\n")
    code, _, err = run("-c", "serve.toml", "--check-config", cwd=tmp_path)
    assert code == 0, err
    assert "warning" not in err


def test_every_setting_of_the_table_exists():
    rows = re.findall(r"^\| `.*?\| (.*) \|$", PAGE, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`([a-z_]+)(?:`| = )", row)}
    named -= {"proxy_pass", "async"}
    assert len(named) > 25
    assert not {name for name in named if f"### `{name}`\n" not in SETTINGS}
