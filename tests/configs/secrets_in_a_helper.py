"""Values from a module beside it, as a deployment with a vault does."""

from secrets_beside import read

bind = "0.0.0.0:8000"
workers = 2
raw_env = [f"{name}={value}" for name, value in read().items()]
