"""The Flask example by Flask's own test client: no server, no sockets."""

import hashlib
import io
import itertools
import unicodedata

import pytest


@pytest.fixture(scope="module")
def main(load_example):
    return load_example("flask_distance_main", "flask_distance/main.py")


@pytest.fixture(scope="module")
def geography(main):
    return main.geography


@pytest.fixture
def client(main):
    return main.app.test_client()


@pytest.fixture
def naps(main, monkeypatch):
    """The seconds the application would have slept, without sleeping them."""
    seconds = []
    monkeypatch.setattr(main.time, "sleep", seconds.append)
    return seconds


def ask(client, base, target):
    return client.get("/distance", query_string={"base": base, "target": target})


# Great-circle distances in kilometres, as any route calculator gives them.
@pytest.mark.parametrize(
    ("base", "target", "km"),
    [
        ("Seoul", "Tokyo", 1153),
        ("London", "Paris", 344),
        ("New York", "London", 5570),
        ("Sydney", "Santiago", 11340),  # across the date line
        ("Auckland", "Honolulu", 7090),  # ... and the equator
        ("Quito", "Singapore", 19740),  # almost opposite each other
    ],
)
def test_known_distances(client, base, target, km):
    answer = ask(client, base, target).get_json()
    assert answer["km"] == pytest.approx(km, rel=0.005)
    assert answer["miles"] == pytest.approx(km * 0.6214, rel=0.005)


def test_the_answer_is_written_in_the_order_of_the_question(client):
    answer = ask(client, "seoul", "tokyo")
    assert answer.status_code == 200
    assert answer.mimetype == "application/json"
    assert list(answer.get_json()) == ["base", "target", "km", "miles"]
    assert answer.get_json()["base"] == "Seoul"


@pytest.mark.parametrize(
    "spelling",
    ["São Paulo", "sao paulo", "  SAO   PAULO ", "SãoPaulo", "sao-paulo", "Sa\u0303o Paulo"],
)
def test_spelling_does_not_matter(client, spelling):
    assert ask(client, spelling, "Lima").get_json()["base"] == "São Paulo"


def test_names_are_readable_in_the_raw_answer(client):
    assert "São Paulo" in ask(client, "sao paulo", "lima").get_data(as_text=True)


def test_from_a_city_to_itself(client):
    assert ask(client, "oslo", "Oslo").get_json()["km"] == 0


def test_unknown_cities_are_named_with_close_matches(client):
    answer = ask(client, "seul", "middle earth")
    assert answer.status_code == 400
    body = answer.get_json()
    assert body["unknown"]["seul"][0] == "Seoul"
    assert body["unknown"]["middle earth"] == []
    assert "'seul'. Did you mean Seoul" in body["error"]
    assert "/cities" in body["error"]


def test_one_unknown_city_is_the_only_one_named(client):
    assert list(ask(client, "Tokio", "Paris").get_json()["unknown"]) == ["Tokio"]
    assert list(ask(client, "Paris", "Tokio").get_json()["unknown"]) == ["Tokio"]


@pytest.mark.parametrize("query", ["", "?base=seoul", "?base=seoul&target=", "?base=%20&target=x"])
def test_missing_cities_are_asked_for(client, query):
    answer = client.get("/distance" + query)
    assert answer.status_code == 400
    assert "name two cities" in answer.get_json()["error"]


@pytest.mark.parametrize("name", ["%00", "%ff%fe", "🏙", "../../etc/passwd", "x" * 5000, "---"])
def test_strange_names_are_unknown_cities(client, name):
    answer = client.get(f"/distance?base={name}&target=oslo")
    assert answer.status_code == 400
    assert len(answer.get_json()["unknown"]) == 1


def test_cities_lists_the_table(client, geography):
    rows = client.get("/cities").get_json()
    assert len(rows) == len(geography.CITIES) >= 150
    assert rows[0].keys() == {"name", "country", "lat", "lon"}


def test_the_table_is_sound(geography):
    names = [city.name for city in geography.CITIES]
    assert len(geography.BY_KEY) == len(names), "two cities have the same name"
    for city in geography.CITIES:
        assert geography.key(city.name).isascii(), f"{city.name} cannot be typed without accents"
        assert unicodedata.is_normalized("NFC", city.name)
        assert city.country
        assert -90 <= city.lat <= 90
        assert -180 <= city.lon <= 180


def test_distance_is_a_metric(geography):
    half_the_earth = 20016
    for a, b in itertools.combinations(geography.CITIES[::7], 2):
        there, back = geography.distance_km(a, b), geography.distance_km(b, a)
        assert there == pytest.approx(back)
        assert 0 < there < half_the_earth


def test_opposite_points_are_half_the_earth_apart(geography):
    for lat, lon in itertools.product(range(-90, 91, 7), range(-180, 1, 7)):
        here = geography.City("here", "", lat, lon)
        there = geography.City("there", "", -lat, lon + 180)
        assert geography.distance_km(here, there) == pytest.approx(20015.1, abs=0.1)


def test_io_waits_100_ms(client, naps):
    assert client.get("/io").get_json() == {"waited_ms": 100}
    assert naps == [0.1]


def test_cpu_always_finds_the_same_pair(client, naps):
    first, second = (client.get("/cpu").get_json() for _ in range(2))
    assert first == second
    assert first["farthest"] == ["Asunción", "Taipei"]
    assert naps == []


def test_mix_waits_and_computes(client, naps):
    assert client.get("/mix").get_json().keys() == {"waited_ms", "farthest", "km"}
    assert naps == [0.1]


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 1_000_000])
def test_upload_counts_and_hashes(client, size):
    body = bytes(range(256)) * (size // 256 + 1)
    body = body[:size]
    answer = client.post("/upload", data=body).get_json()
    assert answer == {"bytes": size, "sha256": hashlib.sha256(body).hexdigest()}


def test_upload_takes_a_form_as_plain_bytes(client):
    answer = client.post("/upload", data={"file": (io.BytesIO(b"x" * 1000), "x.bin")})
    assert answer.get_json()["bytes"] > 1000


def test_upload_reads_in_pieces(client, main):
    class Body(io.BytesIO):
        sizes = []

        def read(self, size=-1):
            Body.sizes.append(size)
            return super().read(size)

    # A terminated input is given to the application as it is, with no wrapper between.
    answer = client.post(
        "/upload",
        input_stream=Body(b"x" * 1_000_000),
        content_length=1_000_000,
        environ_overrides={"wsgi.input_terminated": True},
    )
    assert answer.get_json()["bytes"] == 1_000_000
    assert set(Body.sizes) == {main.UPLOAD_CHUNK}


def test_stream_sends_lines_one_by_one(client, naps):
    answer = client.get("/stream?count=3&delay=0.5", buffered=False)
    assert answer.mimetype == "text/plain"
    assert answer.content_length is None
    chunks = answer.iter_encoded()
    assert next(chunks) == b"line 1 of 3\n"
    assert naps == [], "the first line must not wait"
    assert list(chunks) == [b"line 2 of 3\n", b"line 3 of 3\n"]
    assert naps == [0.5, 0.5]


def test_stream_sends_ten_lines_unless_told(client, naps):
    assert client.get("/stream").data.count(b"\n") == 10
    assert client.get("/stream?count=0").data == b""


@pytest.mark.parametrize(
    "query",
    ["count=-1", "count=10001", "count=ten", "count=1.5", "count=", "count=" + "9" * 5000]
    + ["delay=-1", "delay=5.01", "delay=nan", "delay=inf", "delay=soon"],
)
def test_stream_refuses_what_is_out_of_bounds(client, query):
    answer = client.get("/stream?" + query)
    assert answer.status_code == 400
    assert query.split("=")[0] in answer.get_json()["error"]


def test_healthz(client):
    assert client.get("/healthz").get_json() == {"status": "ok"}


def test_the_page_offers_every_city(client, geography):
    page = client.get("/").get_data(as_text=True)
    assert page.count("<option ") == len(geography.CITIES)
    assert '<form action="/distance">' in page
    assert "http" not in page, "the page must not load anything from elsewhere"


def test_the_page_works_below_a_prefix(client):
    page = client.get("/", base_url="http://localhost/prefix").get_data(as_text=True)
    assert '<form action="/prefix/distance">' in page


def test_errors_are_json_and_keep_their_headers(client):
    missing = client.get("/nowhere")
    assert (missing.status_code, list(missing.get_json())) == (404, ["error"])
    refused = client.get("/upload")
    assert (refused.status_code, list(refused.get_json())) == (405, ["error"])
    assert "POST" in refused.headers["Allow"]
