"""Who the server is, and who the application is; daemons, and what a reload changes."""

import contextlib
import grp
import os
import pwd
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
from pathlib import Path
from typing import NamedTuple

import pytest
from certificates import Authority, secured
from harness import (
    BINARY,
    GONE,
    descriptors,
    is_in_state,
    is_script,
    read_all,
    read_proc,
    read_stat,
    run,
    wait_until,
)

#: Says who imported it, and answers who runs it and whether root is in reach.
WHO = """
    import os

    imported = os.getresuid()

    def app(environ, start_response):
        try:
            os.setuid(0)
            regained = True
        except PermissionError:
            regained = False
        open("made", "w").close()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [repr((imported, os.getresuid(), os.getresgid(), os.getgroups(), regained)).encode()]
"""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


class Python(NamedTuple):
    """An interpreter, and how a server is told to be it."""

    executable: str
    options: list[str]
    env: dict[str, str]

    def is_for(self, account):
        """Whether a user may read it."""
        identity = {"user": account.pw_uid, "group": account.pw_gid, "cwd": "/"}
        command = [self.executable, "-c", "import json, socket"]
        try:
            done = subprocess.run(command, **identity, env=self.env, capture_output=True)
        except PermissionError:
            return False
        return done.returncode == 0


#: What no application of these tests imports, and most of what there is.
LEFT_OUT = ["__pycache__", "site-packages", "test", "config-*", "idlelib", "lib2to3", "ensurepip"]


@pytest.fixture(scope="module")
def python():
    """The tests' interpreter; a copy, if it is in a home directory that others may not enter."""
    try:
        account = pwd.getpwnam("nobody")
    except KeyError:
        pytest.skip("this machine has no user nobody")
    own = Python(sys.executable, [], {})
    if own.is_for(account):
        yield own
        return
    if is_script(BINARY):
        pytest.skip("the Python that serve is installed in is in a home directory that is closed")
    with tempfile.TemporaryDirectory(prefix="serve-python-") as root:
        root, stdlib = Path(root), Path(sysconfig.get_path("stdlib"))
        root.chmod(0o755)
        (root / "bin").mkdir()
        executable = shutil.copy(os.path.realpath(sys.executable), root / "bin" / "python")
        ignore = shutil.ignore_patterns(*LEFT_OUT)
        shutil.copytree(stdlib, root / "lib" / stdlib.name, ignore=ignore)
        library = Path(*sysconfig.get_config_vars("LIBDIR", "INSTSONAME"))
        shutil.copy(library, root / "lib")
        env = {"LD_LIBRARY_PATH": str(root / "lib")}
        yield Python(str(executable), ["--python", str(root)], env)


@pytest.fixture
def nobody(python):
    account = pwd.getpwnam("nobody")
    assert python.is_for(account)
    return account


@pytest.fixture
def shared(serve, python):
    """A server whose directory belongs to a user, who can write there."""

    def make(account, *options, app=WHO, **arguments):
        options = [*python.options, *options]
        server = serve(app, *options, start=False, env=python.env, **arguments)
        os.chown(server.cwd, account.pw_uid, account.pw_gid)
        return server

    return make


def ids(pid):
    """Real, effective, saved and file system ids, and supplementary groups."""
    fields = dict(line.split(":", 1) for line in read_proc(pid, "status").splitlines())
    return tuple([int(word) for word in fields[key].split()] for key in ("Uid", "Gid", "Groups"))


def owner(path):
    return path.stat().st_uid, path.stat().st_gid


@needs_root
@pytest.mark.parametrize("options", [[], ["--preload"]], ids=["plain", "preload"])
def test_no_code_of_the_application_runs_as_root(shared, nobody, options):
    server = shared(nobody, "--user", "nobody", *options).start()
    uid, gid = nobody.pw_uid, nobody.pw_gid
    expected = ((uid,) * 3, (uid,) * 3, (gid,) * 3, [gid], False)
    assert server.get()[2].decode() == repr(expected)
    assert ids(server.pid)[0] == [os.geteuid()] * 4, "the master stays"
    children = set(server.session()) - {server.pid}
    assert len(children) == 2, "a mold and a worker"
    for pid in children:
        assert ids(pid) == ([uid] * 4, [gid] * 4, [gid])
    assert server.stop() == 0


@needs_root
def test_the_key_of_a_certificate_can_be_roots_alone(shared, nobody, tmp_path):
    authority = Authority(tmp_path)
    app = """
        import os

        def app(environ, start_response):
            start_response("200 OK", [])
            readable = [name for name in ("cert.pem", "key.pem") if os.access(name, os.R_OK)]
            return [repr((os.getuid(), readable)).encode()]
    """
    https = ["--certfile", "cert.pem", "--keyfile", "key.pem"]
    server = shared(nobody, "--user", "nobody", *https, app=app)
    pem = authority.server()
    server.write("cert.pem", pem.read_text())
    server.write("key.pem", pem.with_suffix(".key").read_text()).chmod(0o600)
    server.start()
    for generation in (1, 2):
        with secured(authority.trust(), server.connect()) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            answer = read_all(connection)
        assert answer.endswith(repr((nobody.pw_uid, ["cert.pem"])).encode()), answer
        if generation == 1:
            server.signal(signal.SIGHUP)
            server.log.wait(r"gen=2 serves with workers=\d+; gen=1 leaves")


@needs_root
def test_no_hook_runs_as_root(shared, nobody):
    server = shared(nobody, "--user", "nobody")
    server.write(
        "serve.conf.py",
        """
        import os

        def on_starting(server):
            server.log.info("starting as %s", os.getresuid())
        """,
    )
    server.start()
    assert server.log.count(rf"starting as \({', '.join([str(nobody.pw_uid)] * 3)}\)") == 1


@needs_root
def test_a_group_alone(shared, nobody):
    server = shared(nobody, "--group", nobody.pw_gid).start()
    (worker,) = server.worker_pids()
    assert ids(worker) == ([0] * 4, [nobody.pw_gid] * 4, [nobody.pw_gid])


@needs_root
def test_initgroups_brings_the_groups_of_the_user(shared, python):
    def groups(account):
        return os.getgrouplist(account.pw_name, account.pw_gid)

    account = max(filter(python.is_for, pwd.getpwall()), key=lambda account: len(groups(account)))
    group = grp.getgrgid(account.pw_gid).gr_name
    server = shared(account, "-u", account.pw_name, "-g", group, "--initgroups").start()
    (worker,) = server.worker_pids()
    uid, gid, supplementary = ids(worker)
    assert (uid, gid) == ([account.pw_uid] * 4, [account.pw_gid] * 4)
    assert sorted(supplementary) == sorted(groups(account))


@needs_root
def test_a_worker_that_dies_and_a_reload_change_nothing(shared, nobody):
    server = shared(nobody, "--user", "nobody").start()
    (first,) = server.worker_pids()
    os.kill(first, signal.SIGKILL)
    server.log.wait(r"ready in=", count=2)
    server.signal(signal.SIGHUP)
    server.log.wait(r"gen=2 serves")
    server.log.wait(r"gen=1 left")
    (worker,) = server.worker_pids()
    assert ids(worker)[0] == [nobody.pw_uid] * 4
    assert server.stop() == 0


@needs_root
def test_a_mold_of_another_user_still_ends_with_its_master(shared, nobody):
    app = "import os\nopen('gate', 'w').close()\nimport time\nwhile True:\n    time.sleep(1)\n"
    server = shared(nobody, "--user", "nobody", "--preload", app=app)
    server.launch()
    # It never looks at its link: only the kernel can end it.
    wait_until((server.cwd / "gate").exists, "the import to begin")
    server.process.kill()
    wait_until(lambda: not server.session(), "the mold to end")


@needs_root
def test_log_files_and_sockets_are_the_user_s_and_can_be_reopened(shared, nobody):
    server = shared(
        nobody, "--user", "nobody", "-b", "unix:s", "--pid", "pid",
        "--error-logfile", "log/error", "--access-logfile", "log/access",
    )  # fmt: skip
    # As in /var/log: the user may open files here, and cannot make any.
    (server.cwd / "log").mkdir(mode=0o755)
    old = server.cwd / "log" / "old"
    server.launch()
    wait_until((server.cwd / "pid").exists, "the server to serve")
    theirs, ours = (nobody.pw_uid, nobody.pw_gid), (os.geteuid(), os.getegid())
    assert owner(server.cwd / "s") == theirs
    assert owner(server.cwd / "log" / "error") == theirs
    assert owner(server.cwd / "log" / "access") == theirs
    assert owner(server.cwd / "pid") == ours, "who can write it can have root kill anything"
    error, access = server.cwd / "log" / "error", server.cwd / "log" / "access"
    access.rename(old)
    server.signal(signal.SIGUSR1)
    wait_until(access.exists, "the master to open the log anew")
    server.get()
    wait_until(lambda: "GET / " in access.read_text() + old.read_text(), "a line")
    assert owner(access) == theirs
    assert "cannot open" not in error.read_text()
    assert server.stop() == 0


@needs_root
def test_a_log_file_that_was_there_keeps_its_owner(shared, nobody):
    server = shared(nobody, "--user", "nobody", "--error-logfile", "link", "--pid", "pid")
    precious = server.cwd / "precious"
    precious.touch()
    (server.cwd / "link").symlink_to(precious)
    server.launch()
    wait_until((server.cwd / "pid").exists, "the server to serve")
    assert owner(precious) == (os.geteuid(), os.getegid())
    assert server.stop() == 0


@needs_root
def test_modules_that_the_user_may_not_read_are_named(shared, nobody, tmp_path):
    (tmp_path / "closed").mkdir(mode=0o700)
    options = ["--user", "nobody", "--pythonpath", str(tmp_path / "closed")]
    server = shared(nobody, *options).start()
    server.log.wait(
        rf"warning: --user: 'nobody' may not read {tmp_path}/closed, where Python looks"
    )
    assert server.stop() == 0
    server = shared(nobody, "--user", "nobody").start()
    assert server.stop() == 0
    assert "may not read" not in server.log.text()


@pytest.mark.parametrize(
    "options, reason",
    [
        (["--user", "no-such-user"], "--user: there is no user 'no-such-user'"),
        (["--group", "no-such-group"], "--group: there is no group 'no-such-group'"),
        (["--user", "3999999999"], "has no entry in the user database"),
    ],
)
@pytest.mark.parametrize("command", [[], ["--check-config"]], ids=["start", "check"])
def test_a_name_that_nobody_has_ends_the_start(tmp_path, options, reason, command):
    (tmp_path / "main.py").write_text("app = lambda environ, start_response: []\n")
    code, _, err = run(*options, *command, "-b", "127.0.0.1:0", "main:app", cwd=tmp_path)
    assert code == 2
    assert reason in err


@needs_root
def test_without_privilege_only_the_own_user_is_accepted(shared, nobody, python):
    def check(user):
        server = shared(nobody, "--user", user, "--check-config", bind=False)
        identity = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        # As the interpreter, the binary may be where others cannot go.
        server.arguments[0] = shutil.copy(server.arguments[0], server.cwd / "serve")
        env = {**os.environ, **python.env}
        done = subprocess.run(server.arguments, cwd=server.cwd, env=env, **identity, **streams)
        return done.returncode, done.stderr

    assert check("nobody") == (0, "")
    code, err = check("root")
    assert code == 2
    assert "only root can become user 'root'" in err


@pytest.mark.parametrize("mask", [0o000, 0o027], ids=oct)
@pytest.mark.parametrize("options", [True, False], ids=["set", "inherited"])
def test_umask(serve, mask, options):
    options = ["--umask", f"{mask:04o}"] if options else []
    other = os.umask(0o077 if options else mask)
    try:
        server = serve(WHO, *options, "--error-logfile", "log", "--pid", "pid", start=False)
        server.cwd.chmod(0o755)
        server.launch()
    finally:
        os.umask(other)
    wait_until((server.cwd / "pid").exists, "the server to serve")
    server.get()
    for name in ("made", "log"):
        assert stat.S_IMODE((server.cwd / name).stat().st_mode) == 0o666 & ~mask, name
    assert server.stop() == 0


def test_a_reload_tells_what_it_changes(serve):
    server = serve(WHO, "-c", "c.py", start=False)
    server.write("c.py", "timeout = 30\n")
    server.start()
    server.write("c.py", "timeout = 60\nuser = None\n")
    server.signal(signal.SIGHUP)
    server.log.wait(r"gen=2 timeout: 30 -> 60$")
    server.signal(signal.SIGHUP)
    server.log.wait(r"gen=3 serves")
    assert server.stop() == 0
    assert server.log.count(r" -> ") == 1


# ---- daemon


@pytest.fixture
def daemons(tmp_path):
    """Starts daemons with `--pid pid`; whoever is left at the end is killed."""

    def start(app, *options, **config):
        (tmp_path / "main.py").write_text(textwrap.dedent(app))
        (tmp_path / "c.py").write_text("".join(f"{k} = {v!r}\n" for k, v in config.items()))
        options = ["-c", "c.py", "--pid", "pid", "-w", "1", "-b", "unix:s", *options]
        # That it returns shows too that nobody keeps our pipes.
        return run(*options, "main:app", cwd=tmp_path)

    yield start
    for pid in processes(tmp_path):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def processes(cwd):
    """Pids of the living processes that work in a directory."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(*GONE):
            if os.readlink(f"/proc/{name}/cwd") == str(cwd) and not is_in_state(name, "Z"):
                found.append(int(name))
    return found


@pytest.mark.parametrize(
    "options, config", [(["-D"], {}), ([], {"daemon": True})], ids=["flag", "file"]
)
def test_the_command_returns_when_the_daemon_serves(daemons, tmp_path, options, config):
    code, out, err = daemons(WHO, *options, "--error-logfile", "log", **config)
    assert (code, out) == (0, "")
    pid = int((tmp_path / "pid").read_text())
    assert re.search(rf"serves main:app at unix:s \(.*pid={pid}\)\n$", err), err
    assert "error" not in err
    # It is ready now, not soon.
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "s"))
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.1 200"
    assert read_stat(pid)["session"] not in (os.getsid(0), pid), "it could get a terminal"
    for process in processes(tmp_path):
        found = descriptors(process)
        assert [found[fd] for fd in range(3)] == ["/dev/null"] * 3
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not processes(tmp_path), "the daemon to end")
    assert not (tmp_path / "pid").exists()
    assert "SIGTERM" in (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    "app, options, expected, message",
    [
        ("1 / 0\n", [], 3, "ZeroDivisionError"),
        ("app = 1\n", [], 4, "main:app"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n", [], 3, "signal 9"),
        (WHO, ["--chdir", "nowhere"], 2, "chdir"),
        (WHO, ["-b", "unix:no/such/s"], 1, "cannot listen"),
        ("import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\n", [], 1, "has died"),
    ],
    ids=["raises", "no application", "dies", "usage", "bind", "master dies"],
)
def test_a_daemon_that_cannot_start_says_so(daemons, tmp_path, app, options, expected, message):
    code, _, err = daemons(app, "--daemon", *options, "--error-logfile", "log")
    assert code == expected, err
    assert message in err
    wait_until(lambda: not processes(tmp_path), "every process to end")
    assert not (tmp_path / "pid").exists()


def test_a_daemon_without_a_log_is_warned_of(daemons):
    code, _, err = daemons(WHO, "--daemon")
    assert code == 0
    assert "--error-logfile" in err


def test_a_reload_makes_no_daemon(serve):
    server = serve(WHO, "-c", "c.py", start=False)
    server.write("c.py", "daemon = False\n")
    server.start()
    server.write("c.py", "daemon = True\ntimeout = 7\n")
    server.signal(signal.SIGHUP)
    server.log.wait(r"warning: c\.py, line 1: daemon has no effect: a server becomes a daemon when")
    server.log.wait(r"gen=2 timeout: 30 -> 7")
    assert server.stop() == 0
    server.still_alone()


def test_the_command_line_keeps_a_daemon_in_the_foreground(serve):
    server = serve(WHO, "-c", "c.py", "--no-daemon", start=False)
    server.write("c.py", "daemon = True\n")
    server.start()
    assert server.get()[0] == 200
    assert server.stop() == 0
