"""The files that TLS is made of: what is accepted, what is refused in which words."""

import re
import shutil

import pytest
from certificates import Authority, openssl, secured
from harness import read_all, run
from servers import WHO


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="session")
def files(tmp_path_factory, authority):
    """A folder with an application, good files and every kind of bad ones."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "main.py").write_text("def app(environ, start_response): ...\n")
    pem, other = authority.server(), authority.server("other")
    key = pem.with_suffix(".key").read_text()
    (folder / "cert.pem").write_text(pem.read_text())
    (folder / "key.pem").write_text(key)
    (folder / "both.pem").write_text(key + pem.read_text())
    (folder / "ca.pem").write_text(authority.pem.read_text())
    (folder / "other.key").write_text(other.with_suffix(".key").read_text())
    (folder / "empty").write_text("")
    (folder / "noise").write_bytes(bytes(range(1, 256)) * 10)
    (folder / "large").write_bytes(b"-" * 2_000_000)
    (folder / "cut.pem").write_text(pem.read_text()[:300])
    (folder / "hollow.pem").write_text(
        "-----BEGIN CERTIFICATE-----\nTWFu\n-----END CERTIFICATE-----\n"
    )
    made = {
        "cert.der": ["x509", "-in", pem, "-outform", "der"],
        "locked.key": ["pkey", "-in", folder / "key.pem", "-aes256", "-passout", "pass:secret"],
        "old.key": ["ec", "-in", folder / "key.pem", "-aes256", "-passout", "pass:secret"],
        "odd.key": ["ecparam", "-name", "secp521r1", "-genkey", "-noout"],
        "weak.key": ["genrsa", "1024"],
    }
    for name, command in made.items():
        openssl(command[0], "-out", folder / name, *command[1:])
    return folder


@pytest.fixture
def place(files, tmp_path):
    """A copy of it, for one test."""
    return shutil.copytree(files, tmp_path / "place")


KEY = ["--certfile", "cert.pem", "--keyfile"]
GOOD = [*KEY, "key.pem"]


@pytest.mark.parametrize(
    "options, sentence",
    [
        (["--keyfile", "key.pem"], r"--keyfile needs a certificate, .* --certfile$"),
        (["--ca-certs", "ca.pem"], r"--ca-certs needs a certificate, .* --certfile$"),
        (["--cert-reqs", "2"], r"--cert-reqs needs a certificate, .* --certfile$"),
        ([*GOOD, "--cert-reqs", "1"], r"--cert-reqs asks clients .* nobody vouches .*--ca-certs"),
        ([*GOOD, "--cert-reqs", "3"], r"--cert-reqs: .*from 0 to 2"),
        (
            ["--certfile", "no.pem"],
            r"--certfile: .*'no\.pem': No such file .*; .*--chdir",
        ),
        (["--certfile", "/"], r"--certfile: cannot use '/': Is a directory"),
        (["--certfile", "empty"], r"'empty': it is not in PEM format"),
        (["--certfile", "noise"], r"'noise': it is not in PEM format"),
        (["--certfile", "large"], r"'large': it is larger than any file of certificates"),
        (["--certfile", "cut.pem"], r"'cut\.pem': it is damaged"),
        (["--certfile", "cert.der"], r"'cert\.der': it is not in PEM .*`openssl x509 -inform der"),
        (["--certfile", "cert.pem"], r"'cert\.pem': there is no private key in it .*--keyfile$"),
        (["--certfile", "key.pem"], r"'key\.pem': there is no certificate .*are exchanged$"),
        (
            ["--certfile", "key.pem", "--keyfile", "cert.pem"],
            r"--certfile: cannot use 'key\.pem': there is no certificate .*are exchanged$",
        ),
        (
            ["--certfile", "both.pem", "--keyfile", "cert.pem"],
            r"--keyfile: cannot use 'cert\.pem': there is no private key .*are exchanged$",
        ),
        (
            ["--certfile", "hollow.pem", "--keyfile", "key.pem"],
            r"--certfile: cannot use 'hollow\.pem': its first certificate cannot be read",
        ),
        (
            [*KEY, "other.key"],
            r"--keyfile: cannot use 'other\.key': this private key does not belong to the cert",
        ),
        (
            [*KEY, "locked.key"],
            r"--keyfile: .*its private key is encrypted; .*`openssl pkey -in FILE -out KEY`",
        ),
        (
            [*KEY, "old.key"],
            r"--keyfile: .*its private key is encrypted; ",
        ),
        (
            [*KEY, "odd.key"],
            r"'odd\.key': this private key is of no kind that is supported; RSA",
        ),
        (
            [*KEY, "weak.key"],
            r"'weak\.key': this private key is of no kind that is supported; RSA",
        ),
        (
            [*GOOD, "--cert-reqs", "2", "--ca-certs", "key.pem"],
            r"--ca-certs: cannot use 'key\.pem': there is no certificate in it",
        ),
        (
            [*GOOD, "--cert-reqs", "2", "--ca-certs", "hollow.pem"],
            r"--ca-certs: cannot use 'hollow\.pem': one of its certificates is not an authority's",
        ),
    ],
)
@pytest.mark.parametrize("action", [[], ["--check-config"]], ids=["", "check-config"])
def test_a_file_that_cannot_be_used_is_told_in_one_sentence(place, options, sentence, action):
    bind = ["--bind", "127.0.0.1:0"]
    code, out, err = run(*action, *bind, *options, "main:app", cwd=place)
    assert code == 2, err
    errors = [line for line in err.splitlines() if not re.search(" (debug|info): ", line)]
    (line,) = errors
    assert re.search(sentence, line), line
    assert "secret" not in err and "Traceback" not in err and "panic" not in err


def test_a_file_that_a_config_file_names_is_told_with_the_line(place):
    (place / "conf.py").write_text("workers = 1\ncertfile = 'no.pem'\n")
    code, _, err = run("--check-config", "-c", "conf.py", "main:app", cwd=place)
    assert code == 2
    assert "conf.py, line 2: certfile: cannot use 'no.pem'" in err


@pytest.mark.parametrize("kind", ["rsa", "ed25519", "chain"])
def test_what_is_served_with(serve, authority, tmp_path, kind):
    pem = authority.server(kind)
    both = tmp_path / "both.pem"
    if kind != "chain":
        key, request = tmp_path / "k", tmp_path / "r"
        how = ["-algorithm", kind] + (["-pkeyopt", "rsa_keygen_bits:2048"] if kind == "rsa" else [])
        openssl("genpkey", *how, "-out", key)
        config = pem.with_suffix(".cnf")
        openssl("req", "-new", "-key", key, "-config", config, "-out", request)
        openssl(
            *("x509", "-req", "-in", request, "-CA", authority.pem),
            *("-CAkey", authority.pem.with_suffix(".key"), "-CAcreateserial"),
            *("-extfile", config, "-extensions", "server", "-days", "2", "-out", pem),
        )
    else:
        key = pem.with_suffix(".key")
    both.write_text(pem.read_text() + authority.pem.read_text() + key.read_text())
    server = serve(WHO, "--certfile", both)
    with secured(authority.trust(), server.connect()) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert b" 200 " in read_all(connection)
        assert connection.getpeercert()["subject"] == ((("commonName", kind),),)


def test_authorities_without_a_question_are_a_warning(serve, place):
    server = serve(WHO, *GOOD, "--ca-certs", "ca.pem", start=False)
    for name in ("cert.pem", "key.pem", "ca.pem"):
        server.write(name, (place / name).read_text())
    server.start()
    server.log.wait(r"warning: --ca-certs has no effect, .*--cert-reqs 2")
