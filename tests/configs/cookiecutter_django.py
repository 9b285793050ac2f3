"""A Django project made from a template: everything fixed, one process manager around it."""

chdir = "."
bind = "0.0.0.0:5000"
workers = 4
loglevel = "info"
accesslog = "-"
errorlog = "-"
raw_env = ["DJANGO_SETTINGS_MODULE=config.settings.production", "DATABASE_URL=postgres:///shop"]
