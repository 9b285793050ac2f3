"""What --print-config says means the same as a config file, whatever it says.

The values are random, as the JSON schema of config files allows them: that knows every setting,
and the code that reads them is not asked.
"""

import json
import os
import random

import pytest
from harness import ME, ROOT, run

SCHEMA = json.loads((ROOT / "docs/reference/serve.schema.json").read_text())["properties"]

#: Those that are printed: not functions, which are texts that may be empty, nor what is not there.
PRINTED = {
    name: rule
    for name, rule in SCHEMA.items()
    if "deprecated" not in rule and (rule.get("type") != "string" or "minLength" in rule)
}

#: What has to be there before anything is read, or a form that no rule tells.
SPECIAL = {
    "bind": ["127.0.0.1:0", ["[::1]:8000", "unix:/run/a b's.sock"], "unix:a\u00e9,localhost:80"],
    "secure_scheme_headers": [{}, {"X-Proto": 'a"b\\', "X-\u00e9": "#"}, ["X-A=b", "X-C=d=e"]],
    "chdir": ["."],
    "python": [None],
    "user": [ME, os.geteuid()],
    "group": [os.getegid()],
    "syslog_addr": ["udp://localhost:514", "unix:///dev/log"],
    "statsd_host": ["localhost:8125", "unix:///run/statsd"],
    "access_log_format": ['%(h)s "%(r)s" \\ \u00e9 %({x-a}i)s %%', "json"],
    "access_log_skip": [["path=/a#*"], ["path=/\u00e9*", "status=2xx path=/'"]],
    "forwarded_allow_ips": ["*", "10.0.0.0/8,::1", ""],
    "proxy_allow_ips": ["*", "10.0.0.0/8,::1"],
}

LETTERS = "abcXYZ019 _-/:.=,#'\"\\%{}[]()\t\n\x7f\u00e9\u2028\U0001f600"

SEEDS = [int(os.environ["SERVE_SEED"])] if "SERVE_SEED" in os.environ else range(1, 5)


def text(chance, least=1):
    return "a" * least + "".join(chance.choices(LETTERS, k=chance.randrange(12))) + "z"


def thing(chance, depth=0):
    """A value of any form, for a table of such."""
    kind = chance.randrange(6 if depth < 3 else 4)
    if kind == 0:
        return chance.choice([True, False])
    if kind == 1:
        return chance.randrange(-1000, 1000)
    if kind == 2:
        return chance.randrange(-1000, 1000) / 8
    if kind == 3:
        return text(chance)
    if kind == 4:
        return [thing(chance, depth + 1) for _ in range(chance.randrange(3))]
    return table(chance, depth + 1)


def table(chance, depth=0):
    return {text(chance): thing(chance, depth) for _ in range(chance.randrange(4))}


def pattern(chance, rule):
    """A text for one of the patterns that there are; another one is to be added here."""
    return {
        "^ *[0-9.]+ *(ms|s|m|h)? *$": lambda: (
            f"{chance.randrange(1, 100)}{chance.choice(['ms', ' s', 'm', 'h', ''])}"
        ),
        "^ *[0-9]+ *[kKmMgG]? *$": lambda: f"{chance.randrange(1000)}{chance.choice(' kKmMgG')}",
        "^[^=]+=": lambda: f"NAME{chance.randrange(99)}={text(chance)}",
        "^ *(0o)?[0-7]+ *$": lambda: f"0{chance.choice('o0')}{chance.randrange(8)}{7:o}",
    }[rule["pattern"]]()


def value(chance, rule):
    if "anyOf" in rule:
        return value(chance, chance.choice(rule["anyOf"]))
    if "enum" in rule:
        return chance.choice(rule["enum"])
    if "const" in rule:
        return rule["const"]
    if "pattern" in rule:
        return pattern(chance, rule)
    least, most = rule.get("minimum", 0), rule.get("maximum", 2**63 - 1)
    kinds = {
        "boolean": lambda: chance.choice([True, False]),
        "integer": lambda: chance.choice([least, most, chance.randint(least, most)]),
        "number": lambda: chance.choice([least, chance.randint(1, 10**7) / 1000]),
        "string": lambda: text(chance),
        "array": lambda: [value(chance, rule["items"]) for _ in range(chance.randint(1, 3))],
        "object": lambda: (
            {f"X-{n}": text(chance) for n in range(chance.randrange(3))}
            if "additionalProperties" in rule
            else table(chance)
        ),
    }
    return kinds[rule["type"]]()


def some_settings(chance):
    chosen = {name: rule for name, rule in PRINTED.items() if chance.random() < 0.6}
    told = {
        name: chance.choice(SPECIAL[name]) if name in SPECIAL else value(chance, rule)
        for name, rule in chosen.items()
    }
    if told.get("initgroups"):
        told["user"] = ME
    if told.keys() & {"certfile", "keyfile", "ca_certs", "cert_reqs"}:
        told |= {"certfile": text(chance), "ca_certs": text(chance)}
        told["cert_reqs"] = chance.choice([1, 2])
    return {name: it for name, it in told.items() if it is not None}


def in_toml(it):
    if isinstance(it, dict):
        return "{" + ", ".join(f"{in_toml(key)} = {in_toml(val)}" for key, val in it.items()) + "}"
    if isinstance(it, list):
        return "[" + ", ".join(map(in_toml, it)) + "]"
    return json.dumps(it, ensure_ascii=False).replace("\x7f", "\\u007f")


def is_plain(name, it):
    """Whether a value is kept as it was written: no text that stands for something else."""
    kind = PRINTED[name].get("type")
    return name not in SPECIAL and (isinstance(it, list) or kind in ("string", "boolean", "object"))


FORMS = {
    "py": lambda told: "".join(f"{name} = {it!r}\n" for name, it in told.items()),
    "json": json.dumps,
    # It has no word for "not set".
    "toml": lambda told: "".join(
        f"{name} = {in_toml(it)}\n" for name, it in told.items() if it is not None
    ),
}


def printed(place, name):
    """What --print-config writes about a file, and what that says as Python."""
    code, out, err = run("--print-config", "-c", name, cwd=place)
    assert (code, err) == (0, "")
    names = {}
    exec(out, names)
    del names["__builtins__"]
    return out, names


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_printed_means_the_same_as_a_file(tmp_path, form, seed):
    told = some_settings(random.Random(seed))
    (tmp_path / f"first.{form}").write_text(FORMS[form](told))
    out, meant = printed(tmp_path, f"first.{form}")
    assert meant.keys() == PRINTED.keys()
    kept = {name: it for name, it in told.items() if is_plain(name, it)}
    assert {name: meant[name] for name in kept} == kept
    again = {"py": out, "json": FORMS["json"](meant), "toml": FORMS["toml"](meant)}
    for name, source in again.items():
        (tmp_path / f"again.{name}").write_text(source)
        assert printed(tmp_path, f"again.{name}")[1] == meant, name
