"""docs/quickstart.md, walked as a new user does."""

import re
from signal import SIGHUP, SIGTTIN

from harness import ROOT, Server, wait_until

PAGE = (ROOT / "docs" / "quickstart.md").read_text()
FLASK, CONFIG = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def wait_for_all(server, body):
    """Waits until no worker answers anything else: of two, the last old one may go a moment later
    than the first.
    """
    wait_until(lambda: {server.get()[2] for _ in range(10)} == {body}, f"{body} from all workers")


def test_what_the_quick_start_says_happens():
    with Server(FLASK, "--access-logfile", "-") as server:
        assert server.get()[2] == b"Hello, world!\n"
        server.out.wait(r'^127\.0\.0\.1 - - \[.*\] "GET / HTTP/1\.1" 200 14 "-" "')
        server.signal(SIGTTIN)
        server.log.wait("worker=2 .*ready in=")

        again = FLASK.replace("Hello, world!", "Hello again!")
        assert "Hello again!" in PAGE and again != FLASK
        server.write("main.py", again)
        server.signal(SIGHUP)
        server.log.wait("gen=1 left")
        wait_for_all(server, b"Hello again!\n")

        server.write("main.py", again.replace("Flask(__name__)", "Flask(__name__"))
        server.signal(SIGHUP)
        server.log.wait("gen=3 abandoned")
        assert server.log.count("SyntaxError") > 0
        assert server.get()[2] == b"Hello again!\n"

        server.write("main.py", FLASK)
        server.signal(SIGHUP)
        server.log.wait("gen=2 left")
        wait_for_all(server, b"Hello, world!\n")


def test_its_settings_are_found_by_themselves():
    config = CONFIG.replace('"127.0.0.1:8000"', '"127.0.0.1:0"')
    assert config != CONFIG
    server = Server(FLASK, bind=False, workers=None)
    server.write("serve.conf.py", config)
    try:
        server.launch().log.wait(r"workers=4 class=sync config=\S*serve\.conf\.py")
        assert server.stop() == 0
    finally:
        server.close()
