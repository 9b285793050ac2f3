"""Every GUNICORN_ variable is a setting."""

import os

bind = "0.0.0.0:8000"

for k, v in os.environ.items():
    if k.startswith("GUNICORN_") and k != "GUNICORN_CMD_ARGS":
        key = k.split("_", 1)[1].lower()
        locals()[key] = v
