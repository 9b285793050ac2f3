"""https: what holds for HTTP holds for it, and what TLS itself promises."""

import contextlib
import hashlib
import json
import os
import random
import re
import signal
import socket
import ssl
import time

import pytest
from certificates import Authority, Dripping, secured
from harness import PATIENCE, read_all, wait_until
from load import Load, response
from servers import GATED, WHO

each_class = pytest.mark.every_class("sync", "threads", "async")

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
V1 = b"PROXY TCP4 1.2.3.4 5.6.7.8 999 443\r\n"

#: What the application sees of its connection, or as many bytes as the query says.
SEES = """
    import hashlib, json

    NAMES = ["wsgi.url_scheme", "REMOTE_ADDR", "SERVER_NAME", "SERVER_PORT"]
    NAMES += ["SSL_CLIENT_VERIFY", "SSL_CLIENT_CERT"]

    def app(environ, start_response):
        sees = {name: environ.get(name) for name in NAMES}
        sha, body, size = hashlib.sha256(), environ["wsgi.input"], 0
        while piece := body.read(65536):
            sha.update(piece)
            size += len(piece)
        sees["body"] = [size, sha.hexdigest()]
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(sees).encode()]
"""


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def certificate(authority):
    return authority.server()


@pytest.fixture
def options(certificate):
    """What makes a server speak TLS."""
    return ["--certfile", certificate, "--keyfile", certificate.with_suffix(".key")]


@pytest.fixture
def client(authority):
    """Connects to a server and shakes hands."""
    opened = []

    def connect(server, context=None, **arguments):
        connection = secured(context or authority.trust(), server.connect(), **arguments)
        opened.append(connection)
        return connection

    yield connect
    for connection in opened:
        connection.close()


def ask(connection, data=GET):
    connection.sendall(data)
    head, body = response(connection)
    return int(head[9:12]), body


def ended_well(connection):
    """Reads to the end, which the server must have announced."""
    return read_all(connection)


# ---- what is served


@each_class
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_https_is_served_and_the_application_knows(serve, options, client, authority, version):
    server = serve(SEES, *options)
    server.log.wait(rf"serves main:app at https://127\.0\.0\.1:{server.address[1]} ")
    connection = client(server, authority.trust(version))
    assert connection.version() == {771: "TLSv1.2", 772: "TLSv1.3"}[version]
    assert connection.selected_alpn_protocol() == "http/1.1"
    for _ in range(3):
        status, body = ask(connection)
        assert status == 200
        sees = json.loads(body)
        assert sees["wsgi.url_scheme"] == "https"
        assert (sees["SERVER_NAME"], sees["SERVER_PORT"]) == (
            "127.0.0.1",
            str(server.address[1]),
        )
    assert server.stop() == 0
    assert server.log.count(r" (warning|error): ") == 0


@each_class
def test_requests_that_follow_each_other_at_once_are_all_answered(serve, options, client):
    server = serve(SEES, *options)
    connection = client(server)
    connection.sendall(GET * 40)
    for _ in range(40):
        assert response(connection)[0].startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_however_few_bytes_come_at_once(serve, options, authority, step):
    server = serve(SEES, *options)
    with server.connect() as connection:
        tls = Dripping(authority.trust(), connection, step)
        assert ask(tls)[0] == 200
        assert ask(tls)[0] == 200


@each_class
@pytest.mark.parametrize("size", [10_000, 3_000_000])
@pytest.mark.parametrize("coding", ["length", "chunked"])
def test_a_body_arrives_as_it_was_sent(serve, options, client, size, coding):
    server = serve(SEES, *options)
    body = random.Random(size).randbytes(size)
    connection = client(server)
    for _ in range(2):
        head = b"POST / HTTP/1.1\r\nHost: localhost\r\n"
        if coding == "length":
            connection.sendall(head + b"Content-Length: %d\r\n\r\n" % size + body)
        else:
            connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
            for at in range(0, size, 70_000):
                piece = body[at : at + 70_000]
                connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
            connection.sendall(b"0\r\n\r\n")
        _, answer = response(connection)
        assert json.loads(answer)["body"] == [size, hashlib.sha256(body).hexdigest()]


#: Answers with as many pseudo-random bytes as the query says: as one piece, as a stream or as a
#: file.
SENDS = """
    import random, tempfile

    DATA = random.Random(1).randbytes(6_000_000)

    def app(environ, start_response):
        size = int(environ["QUERY_STRING"])
        start_response("200 OK", [("Content-Length", str(size))])
        if environ["PATH_INFO"] == "/whole":
            return [DATA[:size]]
        if environ["PATH_INFO"] == "/file":
            file = tempfile.TemporaryFile()
            file.write(DATA[:size])
            file.seek(0)
            return environ["wsgi.file_wrapper"](file)
        return (DATA[at : min(at + 30_000, size)] for at in range(0, size, 30_000))
"""


@each_class
@pytest.mark.parametrize("path", ["whole", "stream", "file"])
@pytest.mark.parametrize("narrow", [False, True], ids=["", "narrow"])
def test_a_large_response_is_whole_however_slowly_it_is_taken(
    serve, options, authority, path, narrow
):
    server = serve(SENDS, *options, start=False)
    connection = socket.socket()
    size = 6_000_000
    if narrow:
        # The kernel takes less than a record at once; accepted connections have that, too.
        size = 300_000
        server.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    server.start()
    connection.settimeout(PATIENCE)
    connection.connect(server.address)
    sent = random.Random(1).randbytes(6_000_000)[:size]
    with secured(authority.trust(), connection) as tls:
        for _ in range(2):
            tls.sendall(f"GET /{path}?{size} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            head, body = response(tls)
            assert head.startswith(b"HTTP/1.1 200 ")
            assert body == sent
        # Nobody writes any more what has not left when the connection ends.
        tls.sendall(f"GET /{path}?{size} HTTP/1.0\r\n\r\n".encode())
        _, _, body = ended_well(tls).partition(b"\r\n\r\n")
        assert body == sent


def test_a_long_chain_reaches_a_client_that_takes_little_at_once(serve, authority, tmp_path):
    pem = authority.server("chained")
    chain = pem.read_text() + pem.with_suffix(".key").read_text()
    (tmp_path / "chain.pem").write_text(chain + authority.pem.read_text() * 80)
    server = serve(SEES, "--certfile", tmp_path / "chain.pem", start=False)
    # What accepted connections have, too.
    server.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    server.start()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(PATIENCE)
        connection.connect(server.address)
        assert ask(secured(authority.trust(), connection))[0] == 200


ENDLESS = """
    def app(environ, start_response):
        start_response("200 OK", [])
        def pieces():
            for number in range(1_000_000):
                print("made", number, flush=True)
                yield b"x" * 100_000
        return pieces()
"""


@each_class
def test_a_stream_waits_for_its_client_and_one_that_takes_nothing_is_cut(serve, options, client):
    server = serve(ENDLESS, *options, "--write-timeout", "0.5")
    connection = client(server)
    connection.sendall(GET)
    server.log.wait(r"client=.* cut: it took nothing of its response in time")
    # 2 MiB in the server's buffer, and what the kernel's two have room for.
    assert server.out.count("made") < 300


# ---- ends


#: A body that ends with the connection; /cut is not whole.
UNTIL_CLOSE = """
    def app(environ, start_response):
        start_response("200 OK", [])
        def pieces():
            yield b"some"
            if environ["PATH_INFO"] == "/cut":
                raise OSError("no more of it")
            yield b" more"
        return pieces()
"""


@each_class
def test_an_end_is_announced_and_a_cut_is_not(serve, options, client):
    server = serve(UNTIL_CLOSE, *options)
    connection = client(server)
    connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
    assert ended_well(connection).endswith(b"\r\n\r\nsome more")
    connection = client(server)
    connection.sendall(b"GET /cut HTTP/1.0\r\n\r\n")
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        read_all(connection)
    connection = client(server)
    connection.sendall(GET.replace(b"/ ", b"/cut ", 1))
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        read_all(connection)


@each_class
def test_a_connection_that_was_idle_for_too_long_is_closed_in_good_order(serve, options, client):
    server = serve(SEES, *options, "--keep-alive", "0.3")
    connection = client(server)
    assert ask(connection)[0] == 200
    assert ended_well(connection) == b""


@each_class
@pytest.mark.parametrize("polite", [False, True])
def test_a_body_that_ends_early_is_not_a_request(serve, options, client, polite):
    app = """
        def app(environ, start_response):
            print("called", flush=True)
            start_response("200 OK", [])
            return [b"fine"]
    """
    server = serve(app, *options)
    connection = client(server)
    connection.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf")
    if polite:
        # Says goodbye, and waits for the server's.
        connection.unwrap()
    else:
        raw = socket.socket(fileno=os.dup(connection.fileno()))
        raw.settimeout(PATIENCE)
        raw.shutdown(socket.SHUT_WR)
        read_all(raw)
        raw.close()
    client(server).sendall(GET)
    server.out.wait("called")
    assert server.out.count("called") == 1


@each_class
def test_who_has_said_goodbye_still_gets_its_answer(serve, options, authority):
    """close_notify ends one direction only (RFC 8446 section 6.1)."""
    server = serve(GATED, *options).gate()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = authority.trust().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with server.connect() as connection:

        def do(act, *arguments):
            while True:
                try:
                    return act(*arguments)
                except ssl.SSLWantReadError:
                    connection.sendall(outgoing.read())
                    incoming.write(connection.recv(65536))

        do(tls.do_handshake)
        tls.write(GET)
        with pytest.raises(ssl.SSLWantReadError):
            tls.unwrap()
        connection.sendall(outgoing.read())
        # OpenSSL reads nothing after its own goodbye; that it is long enough, and more than an
        # alert, must do.
        assert len(read_all(connection)) > 200


@each_class
def test_a_stop_lets_the_answer_out(serve, options, client):
    server = serve(GATED, *options).gate()
    connection = client(server)
    connection.sendall(GET.replace(b"/ ", b"/wait ", 1))
    server.out.wait("began")
    server.signal(signal.SIGTERM)
    server.log.wait("stopping")
    server.open_gate()
    assert response(connection)[0].startswith(b"HTTP/1.1 200 ")
    assert ended_well(connection) == b""
    assert server.wait() == 0


# ---- who does not speak it


def test_plain_http_is_answered_in_plain_words(serve, options):
    server = serve(SEES, *options, "--access-logfile", "-")
    answer = server.raw(GET)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert answer.endswith(b"\r\n\r\nthe client speaks plain HTTP, and this port is for https\n")
    server.log.wait(r" info: client=127\.0\.0\.1:\d+ 400 the client speaks plain HTTP")
    server.out.wait('"400"|" 400 ')
    assert server.log.count("plain HTTP") == 1
    assert server.log.count(r" (warning|error): ") == 0


def test_tls_sent_to_a_plain_port_is_told_as_well(serve, authority):
    server = serve(SEES)
    with pytest.raises(ssl.SSLError), server.connect() as connection:
        secured(authority.trust(), connection)
    server.log.wait("400 the client speaks TLS: this looks like TLS on a plain HTTP port")


@each_class
def test_a_handshake_has_to_end_in_time(serve, options, authority):
    server = serve(SEES, *options, "--header-timeout", "0.5")
    with server.connect() as silent, server.connect() as slow:
        slow.sendall(hello(authority)[:40])
        assert silent.recv(1) == b"" and slow.recv(1) == b""
    server.log.wait("client=.* closed: the TLS handshake did not end in time")
    assert server.log.count("in time") == 1, "of who has begun one"
    assert server.log.count(r" (warning|error): ") == 0


def hello(authority, *version):
    """The first bytes of a handshake."""
    outgoing = ssl.MemoryBIO()
    tls = authority.trust(*version).wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


@each_class
def test_noise_harms_nobody(serve, options, authority, client):
    server = serve(SEES, *options, "--header-timeout", "2")
    kept = client(server)
    workers = server.worker_pids()
    seed = int(os.environ.get("SERVE_SEED", 0)) or random.randrange(1 << 32)
    print(f"SERVE_SEED={seed}")
    chance, whole = random.Random(seed), hello(authority)
    for _ in range(150):
        noise = bytearray(whole)
        for _ in range(chance.randrange(1, 8)):
            noise[chance.randrange(len(noise))] = chance.randrange(256)
        if chance.random() < 0.3:
            noise = noise[: chance.randrange(1, len(noise))]
        if chance.random() < 0.3:
            noise = b"\x16\x03\x01" + chance.randbytes(chance.randrange(1, 5000))
        with server.connect() as connection:
            connection.sendall(noise)
            connection.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionResetError):
                read_all(connection)
    assert ask(kept)[0] == 200
    assert server.worker_pids() == workers
    assert server.log.count(r"panic|\] error: ") == 0


def test_a_client_that_cannot_check_our_signature_is_told_from_others(serve, options, authority):
    server = serve(SEES, *options)
    whole = hello(authority, ssl.TLSVersion.TLSv1_2)
    # The extension (RFC 5246, section 7.4.1.4.1): its number, two lengths, a list.
    there = re.search(rb"\x00\x0d\x00(.)\x00(.)\x04\x03", whole, re.DOTALL)
    start, size = there.end(2), there[2][0]
    assert there[1][0] == size + 2
    ed25519 = b"\x08\x07"
    with server.connect() as connection:
        connection.sendall(whole[:start] + ed25519 * (size // 2) + whole[start + size :])
        read_all(connection)
    server.log.wait(r" info: client=.* TLS handshake failed: incompatible signing key")


def test_noise_after_the_handshake_ends_that_connection_only(serve, options, client):
    server = serve(SEES, *options)
    kept, broken = client(server), client(server)
    raw = socket.socket(fileno=os.dup(broken.fileno()))
    raw.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
    with pytest.raises(ssl.SSLError, match="(?i)bad.record.mac"):
        broken.recv(1)
    raw.close()
    assert ask(kept)[0] == 200


# ---- beside the rest of the server


def test_a_unix_socket_speaks_it_too(serve, options, authority, tmp_path):
    path = tmp_path / "s"
    server = serve(SEES, "--bind", f"unix:{path}", *options, bind=False)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE)
        connection.connect(str(path))
        status, body = ask(secured(authority.trust(), connection))
    sees = json.loads(body)
    assert (status, sees["wsgi.url_scheme"]) == (200, "https")
    assert (sees["SERVER_NAME"], sees["SERVER_PORT"]) == ("localhost", "443")
    assert server.stop() == 0


@pytest.mark.parametrize("step", [1, 50, 100_000])
def test_the_proxy_protocol_comes_before_it(serve, options, authority, step):
    server = serve(SEES, *options, "--proxy-protocol", "v1")
    with server.connect() as connection:
        tls = Introduced(V1, authority.trust(), connection, step)
        for _ in range(2):
            sees = json.loads(ask(tls)[1])
            assert (sees["REMOTE_ADDR"], sees["wsgi.url_scheme"]) == ("1.2.3.4", "https")


class Introduced(Dripping):
    """With something said before, if possible in the same packet."""

    def __init__(self, introduction, *arguments):
        self.introduction = introduction
        super().__init__(*arguments)

    def _push(self):
        data, self.introduction = self.introduction + self._outgoing.read(), b""
        for at in range(0, len(data), self.step):
            self.socket.sendall(data[at : at + self.step])


def test_who_speaks_tls_without_the_introduction_is_refused(serve, options, authority):
    server = serve(SEES, *options, "--proxy-protocol", "v1")
    with pytest.raises(ssl.SSLError), server.connect() as connection:
        secured(authority.trust(), connection)
    server.log.wait(r"client=.* 400 ")


def test_what_a_trusted_proxy_says_of_the_scheme_counts_more(serve, options, client):
    server = serve(SEES, *options)
    told = GET[:-2] + b"X-Forwarded-Proto: http\r\n\r\n"
    assert json.loads(ask(client(server), told)[1])["wsgi.url_scheme"] == "http"


@each_class
def test_a_websocket_is_not_offered_and_the_log_says_why(serve, options, client):
    app = """
        def app(environ, start_response):
            names = sorted(name for name in environ if name.endswith(".socket"))
            start_response("200 OK", [])
            return [repr(names).encode()]
    """
    server = serve(app, *options)
    upgrade = GET[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    for _ in range(2):
        assert ask(client(server), upgrade) == (200, b"[]")
    server.log.wait(r"warning: .*environ\['gunicorn.socket'\].*TLS")
    assert server.log.count("warning") == 1, "once"


@each_class
def test_a_request_that_takes_too_long_is_answered(serve, options, client):
    app = """
        import time

        def app(environ, start_response):
            time.sleep(60)
    """
    server = serve(app, *options, "--request-timeout", "0.5")
    assert ask(client(server))[0] == 504


# ---- several workers, and a reload


def test_a_connection_stays_with_its_worker(serve, options, client):
    """Another one that has nothing to do could not read it."""
    server = serve(GATED, *options, workers=2).gate()
    first, second = client(server), client(server)
    pids = [ask(connection)[1] for connection in (first, second)]
    while pids[0] != pids[1]:
        second = client(server)
        pids[1] = ask(second)[1]
    first.sendall(GET.replace(b"/ ", b"/wait ", 1))
    server.out.wait("began")
    second.sendall(GET)
    server.open_gate()
    assert response(first)[1] == response(second)[1] == pids[0]


#: Seconds; a request that waits for longer is only run if its client is still there.
PATIENT = 0.1


def test_what_comes_while_a_request_waits_is_not_lost(serve, options, client):
    server = serve(GATED, *options).gate()
    first, second, silent = client(server), client(server), client(server)
    first.sendall(GET.replace(b"/ ", b"/wait ", 1))
    server.out.wait("began")
    for waiting in (second, silent):
        waiting.sendall(GET)
    time.sleep(2 * PATIENT)
    second.sendall(GET)
    server.open_gate()
    response(first)
    assert response(second)[1] == response(second)[1] == response(silent)[1]
    assert ask(second)[0] == ask(silent)[0] == 200


@pytest.mark.parametrize("polite", [False, True])
def test_a_request_whose_client_has_given_up_is_not_run(serve, options, client, polite):
    server = serve(GATED, *options, "--log-level", "debug").gate()
    first, second = client(server), client(server)
    first.sendall(GET.replace(b"/ ", b"/wait ", 1))
    server.out.wait("began")
    second.sendall(GET)
    second.settimeout(2 * PATIENT)
    with contextlib.suppress(TimeoutError):
        if polite:
            # Says goodbye; the server has no time to answer.
            second.unwrap()
        else:
            second.close()
            time.sleep(2 * PATIENT)
    server.open_gate()
    response(first)
    server.log.wait("debug: client=.* has gone after .*; its request is not run")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_is_resumed_by_another_worker(serve, options, client, authority, version):
    server = serve(GATED, *options, workers=2).gate()
    context = authority.trust(version)
    first = client(server, context)
    assert not first.session_reused
    pid = ask(first)[1]
    session = first.session
    first.sendall(GET.replace(b"/ ", b"/wait ", 1))
    server.out.wait("began")
    second = client(server, context, session=session)
    other = ask(second)[1]
    assert other != pid
    assert second.session_reused
    server.open_gate()
    assert response(first)[1] == pid


@each_class
def test_a_renewed_certificate_is_taken_with_nothing_lost(serve, authority, client, tmp_path):
    old, new = authority.server("old"), authority.server("new")
    install(old, tmp_path)
    server = serve(WHO, "--certfile", tmp_path / "both.pem", workers=2)
    assert shown(server, client) == der(old)
    with Load(server, context=authority.trust()) as load:
        load.wait_for_answers(20)
        install(new, tmp_path)
        server.signal(signal.SIGHUP)
        server.log.wait(r"gen=2 serves with workers=2; gen=1 leaves")
        wait_until(lambda: not server.workers_of(1), "the old workers to leave")
        load.wait_for_answers(20)
    load.report("renewal")
    assert load.failures == []
    assert load.retried == 0
    assert shown(server, client) == der(new)
    assert server.log.count(r" (warning|error): ") == 0


@each_class
def test_a_broken_certificate_changes_nothing(serve, authority, client, tmp_path):
    good = authority.server("good")
    install(good, tmp_path)
    server = serve(WHO, "--certfile", tmp_path / "both.pem")
    kept = client(server)
    (worker,) = server.worker_pids()
    (tmp_path / "both.pem").write_text(good.read_text())
    server.signal(signal.SIGHUP)
    server.log.wait(r"both\.pem': there is no private key in it")
    server.log.wait(r"gen=2 .*gen=1 ")
    assert int(ask(kept)[1]) == worker
    assert shown(server, client) == der(good)
    assert server.worker_pids() == [worker]


def install(pem, folder):
    """Certificate and key in one file, whole at once."""
    (folder / "new").write_text(pem.read_text() + pem.with_suffix(".key").read_text())
    (folder / "new").replace(folder / "both.pem")


def shown(server, client):
    """The certificate that new connections see."""
    return client(server).getpeercert(binary_form=True)


def der(pem):
    return ssl.PEM_cert_to_DER_cert(pem.read_text())


def test_what_began_without_tls_goes_on_without_it(serve, options, client):
    """Connections of the generation before are left to the new one as they are."""
    server = serve(SEES, "-c", "conf.py", start=False, workers=2)
    server.write("conf.py", "")
    server.start()
    plain = server.http()
    plain.request("GET", "/")
    assert json.load(plain.getresponse())["wsgi.url_scheme"] == "http"
    keyfile = str(options[3])
    server.write("conf.py", f"certfile = {str(options[1])!r}\nkeyfile = {keyfile!r}\n")
    server.signal(signal.SIGHUP)
    server.log.wait(r"gen=2 serves with workers=2; gen=1 leaves")
    wait_until(lambda: not server.workers_of(1), "the old workers to leave")
    plain.request("GET", "/")
    assert json.load(plain.getresponse())["wsgi.url_scheme"] == "http"
    assert json.loads(ask(client(server))[1])["wsgi.url_scheme"] == "https"
    plain.close()


# ---- certificates of clients


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("asked", ["0", "1", "2", "ssl.CERT_REQUIRED"])
def test_clients_are_asked_for_a_certificate(
    serve, options, client, authority, tmp_path, version, asked
):
    server = serve(SEES, "-c", "conf.py", *options, start=False)
    certs = "" if asked == "0" else f"ca_certs = {str(authority.pem)!r}\n"
    server.write("conf.py", f"import ssl\ncert_reqs = {asked}\n{certs}")
    server.start()
    known = authority.client()
    stranger = Authority(tmp_path, "stranger").client()
    served = {
        "none": is_served(server, client, authority.trust(version)),
        "known": is_served(server, client, authority.trust(version, known)),
        "stranger": is_served(server, client, authority.trust(version, stranger)),
    }
    required = asked not in "01"
    assert served == {"none": not required, "known": True, "stranger": asked == "0"}
    if asked != "0":
        server.log.wait(r" info: client=127\.0\.0\.1:\d+ TLS handshake failed: .*certificate")
    assert server.log.count(r" (warning|error): ") == 0


@pytest.mark.parametrize("kind", ["authority", "first"])
def test_a_certificate_that_was_made_wrongly_is_told_in_words(
    serve, options, client, authority, kind
):
    server = serve(SEES, *options, "--cert-reqs", "2", "--ca-certs", authority.pem)
    mine = authority.pem if kind == "authority" else authority.first_version()
    assert not is_served(server, client, authority.trust(client=mine))
    words = {
        "authority": "is an authority's own: sign another one with it for the client",
        "first": "is of X.509 version 1: sign one of version 3",
    }
    server.log.wait(
        r" info: client=127\.0\.0\.1:\d+ TLS handshake failed: "
        rf"the client's certificate {words[kind]}$"
    )


@each_class
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_application_sees_the_certificate_of_its_client(
    serve, options, client, authority, version
):
    server = serve(SEES, *options, "--cert-reqs", "1", "--ca-certs", authority.pem)
    mine = authority.client("mine")
    context = authority.trust(version, mine)
    session = None
    for _ in range(2):
        connection = client(server, context, session=session)
        assert connection.session_reused is (session is not None)
        for _ in range(2):
            sees = json.loads(ask(connection)[1])
            assert sees["SSL_CLIENT_VERIFY"] == "SUCCESS"
            assert ssl.PEM_cert_to_DER_cert(sees["SSL_CLIENT_CERT"]) == der(mine)
        session = connection.session
    forged = GET[:-2] + b"SSL-Client-Verify: SUCCESS\r\nSSL_CLIENT_CERT: x\r\n\r\n"
    sees = json.loads(ask(client(server, authority.trust(version)), forged)[1])
    assert sees["SSL_CLIENT_VERIFY"] is sees["SSL_CLIENT_CERT"] is None


def is_served(server, client, context):
    try:
        return ask(client(server, context))[0] == 200
    except (ssl.SSLError, ConnectionError):
        return False
