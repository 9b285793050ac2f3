"""Nothing is left for the command line."""

wsgi_app = "main:app"
bind = "0.0.0.0:8000"
workers = 2
pythonpath = "lib"
raw_env = ["SHOP_ENV=production"]
spew = False
check_config = False
print_config = False
