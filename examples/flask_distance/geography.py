"""A table of cities, and how far apart they are.

Nothing here knows about the web, so it can be read, tested and used alone.
"""

import difflib
import itertools
import json
import math
import unicodedata
from pathlib import Path
from typing import NamedTuple

EARTH_RADIUS_KM = 6371.0088  # the mean radius of the IUGG


class City(NamedTuple):
    name: str
    country: str
    lat: float  # degrees, north is positive
    lon: float  # degrees, east is positive


def key(name):
    """What is left of a name without case, accents, spaces and punctuation.

    `São Paulo`, `sao paulo` and `SAO-PAULO` all have the key `saopaulo`.
    """
    plain = unicodedata.normalize("NFKD", name).casefold()
    return "".join(letter for letter in plain if letter.isalnum())


def load_cities():
    text = Path(__file__).with_name("cities.json").read_text(encoding="utf-8")
    return [City(**row) for row in json.loads(text)]


CITIES = load_cities()
BY_KEY = {key(city.name): city for city in CITIES}


def find(name):
    """The city of that name, or None."""
    return BY_KEY.get(key(name))


def close_matches(name):
    """The names of at most three cities that are spelled much like `name`, best first."""
    return [BY_KEY[match].name for match in difflib.get_close_matches(key(name), BY_KEY)]


def distance_km(base, target):
    """The great-circle distance between two cities, by the haversine formula."""
    lat1, lon1, lat2, lon2 = map(math.radians, (base.lat, base.lon, target.lat, target.lon))
    h = (
        math.sin((lat2 - lat1) / 2) ** 2
        + math.cos(lat1) * math.cos(lat2) * math.sin((lon2 - lon1) / 2) ** 2
    )
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(h))


def farthest_pair():
    """The two cities that are farthest apart, found the slow way: every pair is tried."""
    return max(itertools.combinations(CITIES, 2), key=lambda pair: distance_km(*pair))
