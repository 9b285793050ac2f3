"""The part of a soak that judges."""

from soak.__main__ import CYCLES, Census, growth


def looks(**of_cycle):
    """What was found after each cycle, with some of it as a function of the cycle."""
    usual = {"descriptors": lambda n: 20, "threads": lambda n: 2, "greenlets": lambda n: 40}
    rules = {**usual, "memory": lambda n: 30.0, **of_cycle}
    return [Census(**{name: rule(n) for name, rule in rules.items()}) for n in range(CYCLES)]


def test_what_stays_or_fills_up_has_not_grown():
    assert growth(looks()) == []
    assert growth(looks(memory=lambda n: 30 + min(n, 3), threads=lambda n: 30 + n)) == []
    assert growth(looks(descriptors=lambda n: 20 + 30 * (n == 8))) == []


def test_what_grows_is_named():
    assert growth(looks(descriptors=lambda n: 20 + n)) == ["24 descriptors, then 27"]
    assert growth(looks(greenlets=lambda n: 40 + 20 * n)) == ["180 greenlets"]
    assert growth(looks(memory=lambda n: 30.0 + 4 * n)) == ["46.0 MiB, then 58.0"]
