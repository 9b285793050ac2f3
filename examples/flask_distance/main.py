"""How far is it from Seoul to Tokyo? A small Flask application that answers.

Serve it from this folder with `serve main:app`. Besides its one real question
it has a route for each kind of work that a web application does: waiting,
computing, receiving a large body, sending a long answer.
"""

import hashlib
import time

import geography
from flask import Flask, Response, json, render_template, request
from werkzeug.exceptions import BadRequest, HTTPException

KM_PER_MILE = 1.609344
UPLOAD_CHUNK = 64 * 1024  # bytes

app = Flask(__name__)
app.json.ensure_ascii = False  # "São Paulo", not "S\u00e3o Paulo"
app.json.sort_keys = False  # answer in the order written below


@app.get("/")
def index():
    return render_template("index.html", cities=geography.CITIES)


@app.get("/distance")
def distance():
    base_name = request.args.get("base", "").strip()
    target_name = request.args.get("target", "").strip()
    if not base_name or not target_name:
        raise BadRequest("Please name two cities, as in /distance?base=seoul&target=tokyo")

    base, target = geography.find(base_name), geography.find(target_name)
    if base is None or target is None:
        names = {base_name: base, target_name: target}
        return unknown_cities([name for name, city in names.items() if city is None])

    km = geography.distance_km(base, target)
    return {
        "base": base.name,
        "target": target.name,
        "km": round(km, 1),
        "miles": round(km / KM_PER_MILE, 1),
    }


@app.get("/cities")
def cities():
    return [city._asdict() for city in geography.CITIES]


@app.get("/io")
def io():
    """Wait, as for a slow database: the processor is idle meanwhile."""
    return wait_for_database()


@app.get("/cpu")
def cpu():
    """Compute: Python is busy and nothing else in this process can run it."""
    return find_farthest()


@app.get("/mix")
def mix():
    """Wait, then compute: what most real requests do."""
    return wait_for_database() | find_farthest()


@app.post("/upload")
def upload():
    """Count and hash the body piece by piece, so that its size does not matter."""
    size, sha256 = 0, hashlib.sha256()
    while chunk := request.stream.read(UPLOAD_CHUNK):
        size += len(chunk)
        sha256.update(chunk)
    return {"bytes": size, "sha256": sha256.hexdigest()}


@app.get("/stream")
def stream():
    """Send `count` lines, one every `delay` seconds, each as soon as it is there."""
    count = number_from_query("count", int, default=10, most=10_000)
    delay = number_from_query("delay", float, default=0.0, most=5.0)

    def lines():
        for n in range(1, count + 1):
            yield f"line {n} of {count}\n"
            if n < count:
                time.sleep(delay)

    return Response(lines(), mimetype="text/plain")


@app.get("/healthz")
def healthz():
    return {"status": "ok"}


@app.errorhandler(HTTPException)
def error_as_json(error):
    """Every error, `404 Not Found` as well, answers in JSON like everything else."""
    response = error.get_response()  # keeps headers such as Allow
    response.data = json.dumps({"error": error.description})
    response.mimetype = "application/json"
    return response


def unknown_cities(names):
    """The answer to a question about cities that are not in the table."""
    suggestions = {name: geography.close_matches(name) for name in names}
    sentences = [
        f"I do not know {name!r}. Did you mean {' or '.join(close)}?"
        if close
        else f"I do not know {name!r}. All the cities I know are at /cities."
        for name, close in suggestions.items()
    ]
    return {"error": " ".join(sentences), "unknown": suggestions}, 400


def number_from_query(name, convert, default, most):
    """The number `?name=` from 0 to `most`. Any other value is the client's mistake."""
    text = request.args.get(name)
    if text is None:
        return default
    try:
        number = convert(text)
    except ValueError:
        number = None
    if number is None or not 0 <= number <= most:  # "nan" is a float, and in no range
        raise BadRequest(f"{name} must be a number from 0 to {most}, not {text!r}")
    return number


def wait_for_database():
    time.sleep(0.1)
    return {"waited_ms": 100}


def find_farthest():
    base, target = geography.farthest_pair()
    return {
        "farthest": [base.name, target.name],
        "km": round(geography.distance_km(base, target), 1),
    }
