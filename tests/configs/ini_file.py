"""Values of an operator's own file."""

import configparser
from pathlib import Path

parser = configparser.ConfigParser()
parser.read_string("[web]\nworkers = 2\ntimeout = 90\nbind = 0.0.0.0:6543\n")
section = parser["web"]

bind = section["bind"]
workers = section.getint("workers")
timeout = section.getint("timeout")
pidfile = Path("app.pid")
