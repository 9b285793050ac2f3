"""One of several on a machine, under a process manager."""

import os
import pwd

name = "shop"
bind = "127.0.0.1:8001"
workers = 2
user = pwd.getpwuid(os.geteuid()).pw_name
group = os.getegid()
daemon = False
pidfile = f"{name}.pid"
proc_name = name
errorlog = f"{name}.log"
accesslog = f"{name}.access.log"
loglevel = "warning"
