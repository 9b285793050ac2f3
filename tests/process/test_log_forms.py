"""The access log as the settings describe it: formats, rules, and that no line is lost."""

import json
import re
import time
from signal import SIGHUP, SIGUSR1

import pytest
from harness import run, wait_until
from load import Load
from servers import WHO

APP = """
    import os

    def app(environ, start_response):
        path = environ["PATH_INFO"]
        status = environ["QUERY_STRING"] or "200"
        environ["REMOTE_USER"] = "somebody"
        start_response(status + " OK", [("X-Answer", 'a"b'), ("Content-Length", "2")])
        if path == "/file":
            return environ["wsgi.file_wrapper"](open("two", "rb"))
        return [b"ok"]
"""


def lines_of(server, count):
    """The access log's lines on stdout, once there are so many."""
    server.out.wait("", count=count)
    return server.out.lines


def in_format(serve, form, *options):
    return serve(APP, "--access-logfile", "-", "--access-logformat", form, *options)


def test_gunicorn_s_atoms_mean_what_they_mean_there(serve):
    atoms = [
        *("h", "l", "u", "r", "m", "U", "q", "H", "s", "B", "b", "f", "a", "p"),
        *("{X-Sent}i", "{x-answer}o", "{Content-Length}o", "{x-none}i", "{x-none}o"),
        *("{REMOTE_USER}e", "{wsgi.url_scheme}e", "{none}e"),
    ]
    server = in_format(serve, "|".join(f"%({atom})s" for atom in atoms) + "|100%%")
    basic = {"Authorization": "Basic bWU6c2VjcmV0"}  # me:secret
    server.get("/a%20b?201", headers={"X-Sent": "x", "Referer": "r", "User-Agent": "u", **basic})
    [worker] = server.worker_pids()
    assert lines_of(server, 1) == [
        f"127.0.0.1|-|me|GET /a%20b?201 HTTP/1.1|GET|/a%20b|201|HTTP/1.1|201|2|2|r|u|<{worker}>"
        r"|x|a\"b|2|-|-|somebody|http|-|100%"
    ]


def test_times_are_those_of_the_request(serve):
    server = serve(
        """
        import time

        def app(environ, start_response):
            began = time.monotonic()
            while time.monotonic() < began + 0.05:
                pass
            start_response("200 OK", [])
            return [b""]
        """,
        *("--access-logfile", "-", "--access-logformat"),
        "%(T)s %(M)s %(D)s %(L)s %(queue_ms)s %(app_ms)s %(t)s",
    )
    server.get("/")
    [line] = lines_of(server, 1)
    whole, milli, micro, decimal, queue, app, _ = line.split(" ", 6)
    assert int(milli) >= 50 and int(micro) // 1000 == int(milli)
    assert int(whole) == int(milli) // 1000
    assert re.fullmatch(r"\d+\.\d{6}", decimal) and float(decimal) == int(micro) / 1e6
    assert float(app) >= 50 and float(queue) + float(app) == pytest.approx(int(micro) / 1000, abs=1)


@pytest.mark.parametrize(
    ("zone", "offset"), [("Asia/Kolkata", "+0530"), ("XYZ-3", "+0300"), (None, time.strftime("%z"))]
)
def test_the_time_is_local(serve, zone, offset):
    options = ("--access-logfile", "-", "--access-logformat", "%(t)s")
    server = serve(APP, *options, env={"TZ": zone} if zone else None)
    server.get("/")
    [line] = lines_of(server, 1)
    assert line.endswith(f" {offset}]")
    assert f" {offset} master[" in server.log.text()


def test_json_holds_whatever_a_client_sends(serve):
    server = in_format(serve, "json")
    (server.cwd / "two").write_bytes(b"ok")
    agent = 'a "b" \\ \t é'
    server.get("/file?404", headers={"User-Agent": agent.encode()})
    server.raw(b'BAD" /\xff\x01\r\n\r\n')
    asked, refused = map(json.loads, lines_of(server, 2))
    assert asked.pop("time").startswith("20")
    assert 0 <= asked["queue_ms"] <= asked["duration_ms"]
    assert 0 < asked["app_ms"] <= asked["duration_ms"]
    port = server.address[1]
    expected = {
        "client": "127.0.0.1",
        "request": None,
        "method": "GET",
        "path": "/file",
        "query": "404",
        "protocol": "HTTP/1.1",
        "host": f"127.0.0.1:{port}",
        "referer": None,
        "agent": agent,
        "status": 404,
        "bytes": 2,
        "worker": 1,
        "pid": server.worker_pids()[0],
    }
    assert expected.items() <= asked.items()
    assert (refused["method"], refused["status"]) == (None, 400)
    assert refused["request"].startswith('BAD" /')
    assert refused["app_ms"] is None


def test_a_template_that_makes_json_stays_json(serve):
    server = in_format(serve, '{"agent": "%(a)s", "status": %(s)s}')
    server.raw(b'GET / HTTP/1.0\r\nUser-Agent: a"\t\xff"\r\n\r\n')
    [line] = lines_of(server, 1)
    assert json.loads(line) == {"agent": 'a"\t\xff"', "status": 200}


def test_what_is_skipped_has_no_line_unless_the_rule_does_not_hold(serve):
    rules = [
        *("--access-log-skip", "path=/healthz status=2xx"),
        *("--access-log-skip", "path=/static/*,agent=probe/*"),
    ]
    server = in_format(serve, "%(U)s %(q)s", *rules)
    server.get("/healthz?200")
    server.get("/static/a.css?200")
    server.get("/x?200", headers={"User-Agent": "probe/1"})
    server.get("/healthz?500")
    server.get("/last?200")
    assert lines_of(server, 2) == ["/healthz 500", "/last 200"]


def test_a_sample_has_one_line_in_n_and_all_that_failed(serve):
    server = in_format(serve, "%(U)s", "--access-log-sample", "10")
    for number in range(20):
        server.get(f"/{number}?{500 if number == 13 else 200}")
    server.get("/20?200")
    server.get("/last?500")
    assert lines_of(server, 4) == ["/0", "/10", "/13", "/last"]


@pytest.mark.parametrize(
    ("option", "value", "complaint"),
    [
        ("--access-logformat", "%(h) x", r"--access-logformat: '%\(h\) x' has %\(h\) without"),
        ("--access-log-skip", "/healthz", "--access-log-skip: '/healthz' has '/healthz': expected"),
    ],
)
def test_a_wrong_format_or_rule_is_a_usage_error(tmp_path, option, value, complaint):
    (tmp_path / "main.py").write_text("app = print\n")
    code, _, errors = run("--bind", "127.0.0.1:0", option, value, "main:app", cwd=tmp_path)
    assert code == 2
    assert re.search(complaint, errors), errors


def test_an_unknown_atom_is_told_and_becomes_a_dash(serve):
    server = in_format(serve, "%(zz)s %(s)s")
    server.log.wait(r"warning: --access-logformat: %\(zz\)s is no atom")
    server.get("/")
    assert lines_of(server, 1) == ["- 200"]


# ---- each request once

each_class = pytest.mark.every_class("sync", "threads", "async")


@each_class
def test_under_load_and_three_reloads_each_answered_request_has_one_line(serve):
    server = serve(WHO, "--access-logfile", "access.log", workers=2)
    log = server.cwd / "access.log"
    with Load(server) as load:
        for generation in (2, 3, 4):
            server.signal(SIGHUP)
            server.log.wait(rf"gen={generation} serves with workers=2")
            load.wait_for_answers(50)
    assert not load.failures
    assert server.stop() == 0
    lines = log.read_text().splitlines()
    assert all(' "GET / HTTP/1.1" 200 ' in line for line in lines)
    # A client that stops between two requests leaves no line without an answer.
    assert len(lines) == len(load.answers)


@each_class
def test_a_full_disk_under_load_costs_no_request_and_one_line(serve):
    server = serve(WHO, "--access-logfile", "/dev/full")
    with Load(server) as load:
        server.log.wait("error: access log: cannot write: No space left on device")
        load.wait_for_answers(200)
    assert not load.failures
    assert server.stop() == 0
    assert server.log.count(" (error|warning): ") == 1


@each_class
def test_a_request_whose_time_is_over_has_its_line(serve):
    app = """
        import time

        def app(environ, start_response):
            time.sleep(60)
    """
    server = serve(app, "--request-timeout", "0.2", "--access-logfile", "-")
    assert server.get("/slow")[0] == 504
    server.out.wait('"GET /slow HTTP/1.1" 504 ')


@each_class
def test_lines_go_on_when_the_disk_has_room_again(serve):
    server = serve(WHO, "--access-logfile", "access.log", start=False)
    log = server.cwd / "access.log"
    log.symlink_to("/dev/full")
    server.start()
    for _ in range(3):
        server.served_by()
    server.log.wait("error: access log: cannot write: No space left on device")
    log.unlink()
    server.signal(SIGUSR1)
    wait_until(log.exists, "the master to open the file anew")

    def written():
        server.served_by()
        return server.log.count("info: access log: it can be written again")

    wait_until(written, "the worker to open it, too")
    assert server.stop() == 0
    assert server.log.count(" error: ") == 1
    lines = log.read_text().splitlines()
    assert lines and all(' "GET / HTTP/1.1" 200 ' in line for line in lines)
