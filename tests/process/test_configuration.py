"""Where settings are read from, in which forms, and what wins."""

import json
import os
import re

import pytest
from harness import ME, read_stat, run, wait_until

APP = """
import os
import sys

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    name = environ["PATH_INFO"][1:]
    if name == "sys.path":
        return ["\\n".join(sys.path).encode()]
    return [os.environ.get(name, "not set").encode()]
"""


@pytest.fixture
def place(tmp_path):
    (tmp_path / "main.py").write_text(APP)
    return tmp_path


def settings(place, *options, env=None):
    """What --print-config says: (value, source) by name; nothing may be odd."""
    code, out, err = run("--print-config", *options, cwd=place, env=env)
    assert (code, err) == (0, "")
    rows = re.findall(r"^(\w+) *= (.*\S) +# (.*)$", out, re.MULTILINE)
    return {name: (value, source) for name, value, source in rows}


# ---- the forms

FORMS = {
    "serve.conf.py": "import os\n\nworkers = int('3')\nbind = ['a:1', 'b:2']\npreload_app = True\n",
    "gunicorn.conf.py": "\n\nworkers = 3\nbind = 'a:1', 'b:2'\npreload_app = 1 < 2\n",
    "serve.toml": "# ours\n\nworkers = 3\nbind = ['a:1', 'b:2']\npreload_app = true\n",
    "serve.json": '{\n\n"workers": 3,\n"bind": ["a:1", "b:2"],\n"preload_app": true}\n',
    "pyproject.toml": "[tool.x]\n[tool.serve]\nworkers = 3\nbind = 'a:1,b:2'\npreload_app = true\n",
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("named", [True, False], ids=["named", "found"])
def test_every_form_of_file_says_the_same(place, name, named):
    (place / name).write_text(FORMS[name])
    told = settings(place, *(["-c", name] if named else []))
    assert told["workers"] == ("3", f"{name}, line 3")
    assert told["bind"] == ('["a:1","b:2"]', f"{name}, line 4")
    assert told["preload_app"] == ("True", f"{name}, line 5")


@pytest.mark.parametrize("suffix, form", [(".toml", "serve.toml"), (".json", "serve.json")])
def test_the_suffix_tells_the_form(place, suffix, form):
    (place / f"mine{suffix}").write_text(FORMS[form])
    assert settings(place, "-c", f"mine{suffix}")["workers"][0] == "3"


def test_the_first_file_that_is_there_is_read_and_no_other(place):
    for name in reversed(FORMS):
        (place / name).write_text(FORMS[name])
    assert settings(place)["workers"][1].startswith("serve.conf.py")
    (place / "serve.conf.py").unlink()
    assert settings(place)["workers"][1].startswith("gunicorn.conf.py")
    assert settings(place, "-c", "serve.toml")["workers"][1].startswith("serve.toml")


def test_a_project_file_that_is_not_about_us_is_passed_over(place):
    (place / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert settings(place)["workers"] == ('"auto"', "default")
    code, _, err = run("-c", "pyproject.toml", "main:app", cwd=place)
    assert code == 2
    assert "pyproject.toml has no table [tool.serve]" in err


def test_a_module_can_be_the_configuration(place):
    (place / "deploy").mkdir()
    (place / "deploy" / "production.py").write_text("from .base import *\ntimeout = 7\n")
    (place / "deploy" / "base.py").write_text("workers = 3\ntimeout = 5\n")
    told = settings(place, "-c", "python:deploy.production")
    assert told["timeout"] == ("7", "python:deploy.production, line 2")
    assert told["workers"] == ("3", "python:deploy.production")
    code, _, err = run("-c", "python:deploy.staging", "main:app", cwd=place)
    assert code == 2
    assert "the configuration python:deploy.staging: ModuleNotFoundError" in err


def test_a_python_file_may_import_what_is_beside_it_but_not_shadow_python(place):
    (place / "sizes.py").write_text("workers = 3\n")
    (place / "colorsys.py").write_text("raise SystemExit('the wrong module')\n")
    (place / "gunicorn.conf.py").write_text("import colorsys\nfrom sizes import workers\n")
    assert settings(place)["workers"] == ("3", "gunicorn.conf.py")


def test_file_may_be_said(place):
    (place / "mine.conf").write_text("workers = 3\n")
    assert settings(place, "-c", "file:mine.conf")["workers"][0] == "3"


@pytest.mark.parametrize(
    "name, text, sentence",
    [
        (
            "c.toml",
            "workers = 2\ntimeout = 'soon'\n",
            "c.toml, line 2: timeout: 'soon' is not a time",
        ),
        ("c.json", '{"workers": 2,\n "timeout": []}', "c.json, line 2: timeout: [] is not a time"),
        ("c.toml", "workers = 2\ntimeout =\n", "c.toml, line 2: not valid TOML: "),
        ("c.json", '{"workers": 2,}', "c.json: not a JSON object of settings: "),
        (
            "pyproject.toml",
            "[tool.serve]\nworkers = 2\ntimeout = 'soon'\n",
            "pyproject.toml, line 3: timeout: 'soon' is not a time",
        ),
        (
            "c.conf.py",
            "workers = 2\nif workers:\n    timeout = 'soon'\n",
            "c.conf.py, line 3: timeout: 'soon' is not a time from 0 to a year, such as 30,",
        ),
        (
            "c.conf.py",
            "workers = 2\ntimeout = (\n",
            "c.conf.py', line 2: SyntaxError: '(' was never",
        ),
        ("c.conf.py", "\nworkers = wrokers\n", "c.conf.py', line 2: NameError: name 'wrokers'"),
        (
            "c.toml",
            "worker_class = 'gevnt'\n",
            "line 1: worker_class: 'gevnt' is unknown; use sync,",
        ),
    ],
)
def test_a_mistake_is_told_with_file_line_and_what_is_expected(place, name, text, sentence):
    (place / name).write_text(text)
    code, _, err = run("-c", name, "main:app", cwd=place)
    assert code == 2
    assert sentence in err
    assert len(err.splitlines()) == 1


def test_a_mistake_in_a_module_is_told_with_its_line(place):
    (place / "production.py").write_text("workers = 2\ntimeout = 'soon'\n")
    code, _, err = run("-c", "python:production", "main:app", cwd=place)
    assert code == 2
    assert "python:production, line 2: timeout: 'soon' is not a time" in err


@pytest.mark.parametrize(
    ("options", "env", "sentence"),
    [
        (["--timeout", "soon"], {}, "--timeout: 'soon' is not a time"),
        ([], {"SERVE_TIMEOUT": "soon"}, "SERVE_TIMEOUT: 'soon' is not a time"),
        ([], {"GUNICORN_CMD_ARGS": "-t soon"}, "GUNICORN_CMD_ARGS --timeout: 'soon' is not a time"),
        ([], {"PORT": "http"}, "PORT: 'http' is not a port number"),
        ([], {"WEB_CONCURRENCY": "2.5"}, "WEB_CONCURRENCY: '2.5' is not a whole number"),
    ],
)
def test_a_mistake_elsewhere_is_told_with_its_place(place, options, env, sentence):
    code, _, err = run(*options, "main:app", cwd=place, env=env)
    assert code == 2
    assert sentence in err
    assert len(err.splitlines()) == 1


def test_unknown_names_are_told_wherever_they_are(place):
    (place / "serve.toml").write_text("wrokers = 2\nregion = 'eu'\n")
    code, _, err = run("--check-config", "main:app", cwd=place)
    assert code == 0
    assert "serve.toml, line 1: 'wrokers' is not a setting of this version and is ignored; " in err
    assert "did you mean 'workers'?" in err
    assert "serve.toml, line 2: 'region' is not a setting" in err


def test_a_misspelt_variable_is_told(place):
    env = {"SERVE_TIMOUT": "3", "SERVE_PORT": "tcp://10.0.0.1:80", "SERVE_WROKERS": ""}
    code, _, err = run("--check-config", "main:app", cwd=place, env=env)
    assert code == 0
    assert "warning: environment: 'SERVE_TIMOUT' is not a setting" in err
    assert "did you mean 'SERVE_TIMEOUT'?" in err
    assert len(err.splitlines()) == 1


def test_a_table_around_the_settings_is_told(place):
    (place / "serve.toml").write_text("[serve]\nworkers = 2\n")
    code, _, err = run("--check-config", "main:app", cwd=place)
    assert code == 0
    assert "serve.toml, line 1: 'serve' is not a setting" in err
    assert "at the top level of this file, and [tool.serve] is for pyproject.toml" in err
    assert len(err.splitlines()) == 1


def test_a_program_has_names_of_its_own(place):
    (place / "gunicorn.conf.py").write_text(
        "import multiprocessing\nfrom pathlib import Path as bind_\n\n"
        "graceful_timeout_ = 5\nworker = 2\nworkers = worker + 1\nregion = 'eu'\n"
        "graceful_timeout = graceful_timeout_\n\ndef timeout_(): pass\n"
    )
    assert settings(place)["workers"][0] == "3"


# ---- precedence


def test_the_strongest_source_wins(place):
    (place / "gunicorn.conf.py").write_text("workers = 2\n")
    told = []
    env = {}
    for name, value in [
        ("WEB_CONCURRENCY", "7"),
        ("GUNICORN_CMD_ARGS", "--workers 3"),
        ("SERVE_WORKERS", "4"),
    ]:
        env[name] = value
        told.append(settings(place, env=env)["workers"])
    told.append(settings(place, "-w", "5", env=env)["workers"])
    assert told == [
        ("2", "gunicorn.conf.py, line 1"),
        ("3", "environment (GUNICORN_CMD_ARGS --workers)"),
        ("4", "environment (SERVE_WORKERS)"),
        ("5", "command line (--workers)"),
    ]


def test_what_a_platform_sets_is_another_default(place):
    told = settings(place, env={"PORT": "5000", "WEB_CONCURRENCY": "7"})
    assert told["bind"] == ('["0.0.0.0:5000"]', "environment (PORT)")
    assert told["workers"] == ("7", "environment (WEB_CONCURRENCY)")


def test_the_config_file_can_be_named_in_the_environment(place):
    for number, name in enumerate("abc", 1):
        (place / f"{name}.py").write_text(f"workers = {number}\n")
    env = {"GUNICORN_CMD_ARGS": "-c a.py"}
    assert settings(place, env=env)["workers"][0] == "1"
    env["SERVE_CONFIG"] = "b.py"
    assert settings(place, env=env)["workers"][0] == "2"
    assert settings(place, "-c", "c.py", env=env)["workers"][0] == "3"


def test_a_switch_can_be_turned_off_by_a_stronger_source(place):
    (place / "serve.toml").write_text("preload_app = true\n")
    assert settings(place, "--no-preload")["preload_app"][0] == "False"
    assert settings(place, env={"SERVE_PRELOAD_APP": "no"})["preload_app"][0] == "False"


@pytest.mark.parametrize("form", ["again.py", "again.json"])
def test_what_is_printed_means_the_same_as_a_file(place, form):
    (place / "serve.toml").write_text(
        "workers = 3\nbind = ['a:1', 'unix:s']\nmax_body_size = '10M'\ntimeout = 0.5\n"
        f"raw_env = ['A=1,2']\numask = '027'\nuser = '{ME}'\n"
    )
    code, out, _ = run("--print-config", "main:app", cwd=place)
    assert code == 0
    if form.endswith(".json"):
        names = {}
        exec(out, names)
        del names["__builtins__"]
        out = json.dumps(names)
    (place / form).write_text(out)
    first = settings(place, "main:app")
    again = settings(place, "-c", form)
    assert {name: value for name, (value, _) in again.items()} == {
        name: value for name, (value, _) in first.items()
    }


def test_what_a_file_prints_is_not_among_the_settings(place):
    (place / "serve.conf.py").write_text("workers = 3\nprint('three of them')\n")
    code, out, err = run("--print-config", cwd=place)
    assert (code, err) == (0, "three of them\n")
    assert "three of them" not in out


# ---- gunicorn's


def test_what_only_gunicorn_has_is_one_line_each(serve):
    server = serve(APP, "--worker-tmp-dir", "/dev/shm", "--spew", start=False)
    server.write("gunicorn.conf.py", "worker_tmp_dir = '/dev/shm'\nhttp_parser = 'auto'\n")
    server.start()
    assert server.log.count(r"warning: --spew has no effect: py-spy") == 1
    assert server.log.count(r"info: --worker-tmp-dir is not needed: heartbeats") == 1
    assert server.log.count(r"info: gunicorn.conf.py, line 1: worker_tmp_dir is not needed") == 1
    assert "http_parser" not in server.log.text()
    server.signal(1)
    server.log.wait(r"gen=1 left")
    assert server.log.count(r"--spew has no effect") == 1


@pytest.mark.parametrize(
    ("value", "meant"), [("True", "auto"), ("False", "off"), ("None", "off"), ("'v1'", "v1")]
)
def test_the_proxy_protocol_can_be_a_switch_as_in_gunicorn(place, value, meant):
    (place / "gunicorn.conf.py").write_text(f"proxy_protocol = {value}\n")
    assert settings(place)["proxy_protocol"][0] == f'"{meant}"'


@pytest.mark.parametrize(("value", "meant"), [("WARN", "warning"), ("fatal", "critical")])
def test_levels_have_the_other_words_of_python(place, value, meant):
    (place / "gunicorn.conf.py").write_text(f"loglevel = '{value}'\n")
    assert settings(place)["loglevel"][0] == f'"{meant}"'


# ---- what settings do


def test_variables_are_there_before_the_application(serve):
    server = serve(APP, "-e", "ONE=1,2", "--env", "TWO=a=b", start=False)
    server.start()
    assert server.get("/ONE")[2] == b"1,2"
    assert server.get("/TWO")[2] == b"a=b"


@pytest.mark.parametrize("preload", ["--preload", "--no-preload"])
def test_pythonpath_comes_first(serve, preload):
    source = "from helper import VALUE\n" + APP.replace('"not set"', "VALUE")
    server = serve(source, "--pythonpath", "lib,more", preload, start=False)
    server.write("lib/helper.py", "VALUE = 'from lib'\n")
    server.write("helper.py", "VALUE = 'from here'\n")
    server.start()
    assert server.get("/NOTHING")[2] == b"from lib"
    path = server.get("/sys.path")[2].decode().splitlines()
    assert path[:3] == [str(server.cwd / "lib"), str(server.cwd / "more"), str(server.cwd)]


def test_a_name_for_all_processes(serve):
    server = serve(APP, "--name", "shop", workers=2)
    server.log.wait(r"serves main:app")

    def names():
        stats = [read_stat(pid) and name_of(pid) for pid in server.session()]
        return {name for name in stats if name}

    wait_until(lambda: names() == {"shop"}, "every process to be called shop")


def name_of(pid):
    try:
        with open(f"/proc/{pid}/comm") as file:
            return file.read().strip()
    except (FileNotFoundError, ProcessLookupError):
        return None


def test_a_reload_reads_everything_again_and_tells_what_changes(serve):
    server = serve(APP, workers=None, start=False)
    server.write("sizes.py", "timeout = 7\n")
    server.write(
        "gunicorn.conf.py",
        "from sizes import timeout\nworkers = 1\nraw_env = ['WHO=old']\nproc_name = 'one'\n",
    )
    server.start(workers=1)
    assert server.get("/WHO")[2] == b"old"
    server.write("sizes.py", "timeout = 8\n")
    server.write(
        "gunicorn.conf.py",
        "from sizes import timeout\nworkers = 2\nraw_env = ['WHO=new']\nloglevel = 'debug'\n",
    )
    os.kill(server.pid, 1)
    server.log.wait(r"gen=1 left")
    for change in (
        r"timeout: 7 -> 8",
        r"workers: 1 -> 2",
        r'raw_env: \["WHO=old"\] -> \["WHO=new"\]',
        r'proc_name: "one" -> None',
        r'loglevel: "info" -> "debug"',
    ):
        server.log.wait(rf"gen=2 {change}")
    assert server.get("/WHO")[2] == b"new"
