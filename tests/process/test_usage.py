"""What an operator gets wrong is answered with one sentence and the right exit code."""

import os
import re
import socket

import pytest
from harness import embedded, run

APP = """
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"fine"]
"""


@pytest.fixture
def place(tmp_path):
    (tmp_path / "main.py").write_text(APP)
    return tmp_path


def refused(place, *options, code):
    """Runs a command that must end with `code`; returns its one line on stderr."""
    found, out, err = run(*options, cwd=place)
    assert (found, out) == (code, ""), err
    lines = [line for line in err.splitlines() if " info: " not in line]
    assert len(lines) == 1, err
    return lines[0]


# ---- the command line


@pytest.mark.parametrize(
    "options, sentence",
    [
        (["--wrokers", "3"], r"unknown option '--wrokers'; did you mean '--workers'\?"),
        (["--colour"], r"unknown option '--colour'; see serve --help"),
        (["-z"], r"unknown option '-z'"),
        (["--workers", "many"], r"--workers: 'many' is not a whole number"),
        (["--workers", "0"], r"--workers: '0' is not a whole number from 1"),
        (["--workers"], r"--workers"),
        (["--timeout", "-1"], r"--timeout: '-1' is not a time"),
        (["--bind", "127.0.0.1:70000"], r"--bind: '127.0.0.1:70000': '70000' is not a port number"),
        (["--bind", "fd://x"], r"--bind: 'fd://x': 'x' is not a descriptor number"),
        (["--worker-class", "gevnt"], r"--worker-class: 'gevnt' is unknown"),
        (["--log-level", "debgu"], r"did you mean 'debug'\?"),
        (["--unix-socket-mode", "999"], r"octal file mode"),
        (["other:app"], r"unexpected argument 'other:app'"),
    ],
)
def test_a_wrong_option_is_named(place, options, sentence):
    assert re.search(sentence, refused(place, "main:app", *options, code=2))


@pytest.mark.parametrize(
    "name, value, sentence",
    [
        ("GUNICORN_CMD_ARGS", "-w many", r"GUNICORN_CMD_ARGS --workers: 'many' is not"),
        ("GUNICORN_CMD_ARGS", "--wrokers 2", r"GUNICORN_CMD_ARGS: unknown option '--wrokers'"),
        ("SERVE_WORKERS", "many", r"SERVE_WORKERS: 'many' is not"),
        ("WEB_CONCURRENCY", "many", r"WEB_CONCURRENCY: 'many' is not"),
        ("PORT", "http", r"PORT: 'http' is not a port number"),
    ],
)
def test_a_wrong_variable_is_named(place, name, value, sentence):
    code, _, err = run("main:app", cwd=place, env={name: value})
    assert code == 2
    assert re.search(sentence, err)
    assert len(err.splitlines()) == 1


def test_no_application_is_said(place):
    assert "no application is named: write `serve main:app`" in refused(
        place, "-b", "127.0.0.1:0", code=2
    )


def test_version(place):
    code, out, err = run("--version", cwd=place)
    assert (code, err) == (0, "")
    assert re.fullmatch(r"serve \d+\.\d+\.\d+\n", out)


def test_help_names_the_flags(place):
    code, out, err = run("--help", cwd=place)
    assert (code, err) == (0, "")
    for flag in ("--bind", "--workers", "--timeout", "--preload", "--config", "--check-config"):
        assert flag in out
    assert "--initgroups" not in out
    code, out, err = run("--help-all", cwd=place)
    assert (code, err) == (0, "")
    assert "--initgroups" in out


# ---- what is in the way


def test_a_port_in_use_is_named(place):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        line = refused(place, "-w", "1", "-b", f"127.0.0.1:{port}", "main:app", code=1)
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in line


def test_an_address_that_another_one_covers_is_told_as_such(place):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
    options = ["-w", "1", "-b", f"127.0.0.1:{port}", "-b", f"0.0.0.0:{port}"]
    line = refused(place, *options, "main:app", code=1)
    assert "or this server by another --bind" in line


def test_a_file_where_the_socket_should_be_is_left_alone(place):
    (place / "data").write_text("precious")
    line = refused(place, "-w", "1", "-b", "unix:data", "main:app", code=1)
    assert "cannot listen on unix:data: the file exists and is not a socket" in line
    assert (place / "data").read_text() == "precious"


def test_a_socket_somebody_listens_on_is_left_alone(place):
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(place / "s"))
        other.listen()
        line = refused(place, "-w", "1", "-b", "unix:s", "main:app", code=1)
        assert "cannot listen on unix:s" in line
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(place / "s"))


def test_a_directory_that_is_missing_is_named(place):
    line = refused(place, "-w", "1", "-b", "unix:run/s", "main:app", code=1)
    assert "--bind: cannot listen on unix:run/s: No such file or directory" in line


def test_an_address_of_another_machine_is_named(place):
    line = refused(place, "-w", "1", "-b", "192.0.2.1:8000", "main:app", code=1)
    assert "cannot listen on 192.0.2.1:8000: Cannot assign requested address" in line


def test_a_descriptor_that_is_no_socket_is_named(place):
    line = refused(place, "-w", "1", "-b", "fd://2", "main:app", code=1)
    assert "cannot listen on fd://2: it is not a socket" in line


def test_what_was_bound_is_removed_when_another_address_is_refused(place):
    refused(place, "-w", "1", "-b", "unix:good", "-b", "unix:run/s", "main:app", code=1)
    assert not (place / "good").exists()


def test_a_working_directory_that_is_missing_is_named(place):
    line = refused(place, "-w", "1", "-b", "127.0.0.1:0", "--chdir", "away", "main:app", code=2)
    assert re.search(r"--chdir: cannot change to \S*/away: No such file or directory", line)


@pytest.mark.parametrize("flag", ["--error-logfile", "--access-logfile"])
def test_a_log_file_that_cannot_be_opened_is_named(place, flag):
    line = refused(place, "-w", "1", "-b", "127.0.0.1:0", flag, "logs/l", "main:app", code=1)
    assert f"{flag}: cannot open the log file logs/l: No such file or directory" in line


# ---- the pidfile


def test_a_pidfile_of_a_living_process_stops_the_start(place):
    held = f"{os.getpid()}\n"
    (place / "serve.pid").write_text(held)
    options = ["-w", "1", "-b", "127.0.0.1:0", "--pid", "serve.pid"]
    line = refused(place, *options, "main:app", code=1)
    assert f"--pid: the pidfile serve.pid belongs to pid {os.getpid()}, which is running" in line
    assert (place / "serve.pid").read_text() == held


def test_a_pidfile_lasts_as_long_as_the_server(serve):
    server = serve(APP, "--pid", "serve.pid", start=False)
    server.write("serve.pid", "2147483646\n")
    server.start().log.wait(r"serves main:app")
    assert (server.cwd / "serve.pid").read_text() == f"{server.pid}\n"
    assert server.stop() == 0
    assert not (server.cwd / "serve.pid").exists()


# ---- the configuration file


def test_a_configuration_file_that_is_missing_is_named(place):
    line = refused(place, "-c", "away.py", "main:app", code=2)
    assert re.search(r"cannot read the configuration file '\S*away.py': No such file", line)


def test_a_configuration_file_that_is_a_folder_is_named(place):
    (place / "conf").mkdir()
    line = refused(place, "-c", "conf", "main:app", code=2)
    assert re.search(r"cannot read the configuration file '\S*conf': Is a directory", line)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_configuration_file_that_may_not_be_read_is_named(place):
    (place / "conf.py").write_text("workers = 1\n")
    (place / "conf.py").chmod(0)
    line = refused(place, "-c", "conf.py", "main:app", code=2)
    assert "Permission denied" in line


@pytest.mark.parametrize(
    "source, sentence",
    [
        ("workers = 1\nbind = [\n", r"conf\.py', line 2: SyntaxError"),
        ("workers = 1\n\nthreads = undefined\n", r"conf\.py', line 3: NameError: .*undefined"),
        ("import sys\nsys.exit(5)\n", r"conf\.py', line 2: SystemExit: 5"),
        ("\nworkers = 'many'\n", r"conf\.py, line 2: workers: 'many' is not a whole number"),
        ("timeout = [1]\n", r"conf\.py, line 1: timeout: \[1\] is not a time"),
        ("bind = 3\nif bind:\n    bind = 4\n", r"conf\.py, line 3: bind: 4 is not"),
        (
            "import gunicorn.glogging\n",
            r"line 1: ModuleNotFoundError: .*; leave gunicorn installed",
        ),
        ("unix_socket_mode = 660\n", r"mode: 660 is not .*, such as 0660, or 0o660 as a number"),
        ("timeout = float('inf')\n", r"line 1: timeout: the Python object <float inf> is not a"),
        ("bind = {'a:1'}\n", r"line 1: bind: the Python object <set .*> is not a"),
        ("class Mine: pass\nworker_class = Mine", r"worker_class: '__config__.Mine' is unknown"),
        ("protocol = 'uwsgi'\n", r"line 1: protocol cannot be had: requests are read as HTTP only"),
    ],
)
@pytest.mark.parametrize("action", [[], ["--check-config"]], ids=["", "check-config"])
def test_a_configuration_file_that_is_wrong_is_named_with_the_place(
    place, source, sentence, action
):
    (place / "conf.py").write_text(source)
    assert re.search(sentence, refused(place, *action, "-c", "conf.py", "main:app", code=2))


def test_an_unknown_name_in_the_configuration_file_is_a_warning(serve):
    server = serve(APP, "-c", "conf.py", start=False)
    server.write("conf.py", "wrokers = 3\n_mine = 1\nimport os\n")
    server.start()
    assert server.log.count(r"warning: conf\.py, line 1: .*'?wrokers.*did you mean '?workers") == 1
    assert server.log.count(r"warning") == 1
    assert server.get()[2] == b"fine"


def test_the_configuration_file_can_name_the_application(serve):
    server = serve(APP, "-c", "conf.py", spec=None, start=False)
    server.write("conf.py", 'wsgi_app = "main:app"\n')
    server.start()
    assert server.get()[2] == b"fine"


# ---- only looking


def test_an_annotation_is_no_value_and_that_is_told(place):
    (place / "conf.py").write_text(
        "workers: 3\nregion: str\nthreads: int = 1\nbind: '127.0.0.1:0'\n"
    )
    code, out, err = run("--check-config", "-c", "conf.py", "main:app", cwd=place)
    assert (code, out) == (0, "")
    told = re.findall(r"warning: conf\.py, line (\d): '(\w+)' is annotated and has no value", err)
    assert sorted(told) == [("1", "workers"), ("4", "bind")]
    assert len(err.splitlines()) == 2


def test_a_file_in_another_language_is_said_to_be_read_as_python(place):
    (place / "serve.ini").write_text("[server]\nworkers = 3\n")
    line = refused(place, "-c", "serve.ini", "main:app", code=2)
    assert re.search(r"serve\.ini', line 1: NameError: .*; it is read as Python: name it", line)


def test_check_config_is_silent_when_all_is_well(place):
    (place / "conf.py").write_text("bind = 'unix:s'\nworkers = 2\n")
    assert run("--check-config", "-c", "conf.py", "main:app", cwd=place) == (0, "", "")
    assert not (place / "s").exists()


@pytest.mark.parametrize(
    "options, code, sentence",
    [
        (["main:ap"], 4, r"no attribute 'ap'"),
        (["nowhere:app"], 3, r"no module 'nowhere'"),
        (["--chdir", "away", "main:app"], 2, r"--chdir: .*away"),
        (["--bind", "host:port", "main:app"], 2, r"'port' is not a port number"),
        pytest.param(["--python", "away", "main:app"], 2, r"no Python at away", marks=embedded),
    ],
)
def test_check_config_says_what_a_start_would(place, options, code, sentence):
    assert re.search(sentence, refused(place, "--check-config", *options, code=code))


@pytest.mark.parametrize(
    "source, code, sentence",
    [
        ("bind = 'unix:'", 2, r"bind: 'unix:': the path is missing"),
        ("chdir = 'away'", 2, r"chdir: cannot change to .*away: No such file"),
        ("user = 'no-such-user'", 2, r"user: there is no user 'no-such-user'"),
        ("group = 'no-such-group'", 2, r"group: there is no group 'no-such-group'"),
        ("reload_extra_files = '[x'", 2, r"reload_extra_files: '\[x': invalid range pattern"),
        ("thread_stack_size = '1k'", 2, r"thread_stack_size: 1024 bytes are less than the 32k"),
        ("forwarded_allow_ips = '10.0.0.0/33'", 2, r"forwarded_allow_ips: .*10\.0\.0\.0/33"),
        ("forwarded_allow_ips = 'localhost'", 2, r"forwarded_allow_ips: .*localhost"),
        ("proxy_protocol = 'v1'\nproxy_allow_ips = 'x'", 2, r"proxy_allow_ips: .*x"),
        ("accesslog = '-'\naccess_log_format = '%(h'", 2, r"access_log_format: '%\(h' "),
        ("accesslog = '-'\naccess_log_skip = 'bad'", 2, r"access_log_skip: 'bad' "),
        (
            "errorlog = 'logs/e'",
            1,
            r"errorlog: cannot open the log file logs/e: No such file or directory",
        ),
        (
            "accesslog = 'logs/a'",
            1,
            r"accesslog: cannot open the log file logs/a: No such file or directory",
        ),
        ("errorlog = 'folder'", 1, r"errorlog: cannot open the log file folder: Is a directory"),
        ("pidfile = 'run/p'", 1, r"pidfile: the pidfile run/p: "),
        ("syslog = True\nsyslog_addr = 'udp://host.invalid:514'", 1, r"syslog_addr: udp://host\."),
        ("syslog = True\nsyslog_addr = 'unix:///nowhere'", 1, r"syslog_addr: unix:///nowhere: "),
    ],
)
def test_check_config_refuses_a_value_as_a_start_would(place, source, code, sentence):
    (place / "conf.py").write_text("bind = '127.0.0.1:0'\nworkers = 1\n" + source)
    line = 2 + len(source.splitlines())
    (place / "folder").mkdir()
    options = ["-c", "conf.py", "main:app"]
    checked = refused(place, "--check-config", *options, code=code)
    assert re.search(rf"conf\.py, line {line}: {sentence}", checked)
    started = refused(place, *options, code=code)
    assert re.search(sentence + ".*", checked)[0] in started


def test_check_config_leaves_the_files_of_a_running_server_alone(place):
    held = f"{os.getpid()}\n"
    (place / "serve.pid").write_text(held)
    (place / "old").write_text("a line\n")
    os.mkfifo(place / "pipe")
    for log in ("old", "new", "pipe"):
        options = ["--error-logfile", log, "--access-logfile", log, "--pid", "serve.pid"]
        assert run("--check-config", *options, "main:app", cwd=place) == (0, "", "")
    assert (place / "serve.pid").read_text() == held
    assert (place / "old").read_text() == "a line\n"
    assert not (place / "new").exists()


def test_print_config_says_what_and_from_where(place):
    (place / "conf.py").write_text("workers = 2\nkeepalive = 5\n")
    code, out, err = run(
        "--print-config",
        *["-c", "conf.py", "--timeout", "7", "main:app"],
        cwd=place,
        env={"SERVE_WORKERS": "3"},
    )
    assert (code, err) == (0, "")
    told = dict(re.findall(r"^(\w+) *= (.*\S) *$", out, re.MULTILINE))
    assert re.fullmatch(r"3 +# environment \(SERVE_WORKERS\)", told["workers"])
    assert re.fullmatch(r"5 +# conf\.py, line 2", told["keepalive"])
    assert re.fullmatch(r"7 +# command line \(--timeout\)", told["timeout"])
    assert re.fullmatch(r"30 +# default", told["graceful_timeout"])
    values = {}
    exec(out, values)  # It is itself a configuration file.
    assert values["wsgi_app"] == "main:app"
