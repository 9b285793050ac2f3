"""Python's logging, set up as gunicorn's settings logconfig, logconfig_json and logconfig_dict say.

What a setting asks for is done once per generation, in the mold, before anything of the application
is imported; workers have it by the fork. The server's own lines are not written from here: most
come from processes and threads without Python.
"""

import logging
import os

#: What a configuration need not say, as in gunicorn. Each of its names replaces the one here.
DEFAULTS = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "generic": {
            "format": "%(asctime)s [%(process)d] [%(levelname)s] %(message)s",
            "datefmt": "[%Y-%m-%d %H:%M:%S %z]",
        }
    },
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "formatter": "generic",
            "stream": "ext://sys.stdout",
        },
        "error_console": {
            "class": "logging.StreamHandler",
            "formatter": "generic",
            "stream": "ext://sys.stderr",
        },
    },
    "root": {"level": "INFO", "handlers": ["console"]},
}

#: Applications log to the first one, or take its handlers for their own logger.
ERROR = "gunicorn.error"
ACCESS = "gunicorn.access"


class Refusal(Exception):
    """Why logging cannot be set up: (exit code, sentence, traceback or '')."""


def apply(setting, place, value):
    """Does what `setting` says. `place` is where it was written."""
    try:
        configure(setting, value)
    except Exception as error:
        raise Refusal(2, f"{place}: {reason(error)}", "") from None


def lend(level, write):
    """Has gunicorn's error logger write into the server's log, by `write`: it takes a level and a
    line. Returns which of gunicorn's loggers have handlers of their own already, and keep them.
    """
    taken = [name for name in (ERROR, ACCESS) if logging.getLogger(name).handlers]
    if ERROR not in taken:
        logger = logging.getLogger(ERROR)
        logger.disabled = False
        logger.propagate = False
        logger.setLevel(level)
        logger.addHandler(Handler(write))
    return taken


def configure(setting, value):
    from logging.config import dictConfig, fileConfig  # Takes its time, and few ask for it.

    if setting == "logconfig_dict":
        dictConfig({**DEFAULTS, **table(value)})
        return
    # Of a file that is not there, fileConfig says nothing that helps before 3.12.
    with open(value, "rb") as file:
        text = file.read()
    if setting == "logconfig_json":
        try:
            found = table(text)
        except ValueError as error:
            raise ValueError(f"{value}: {error}") from None
        dictConfig({**DEFAULTS, **found})
    else:
        defaults = {"__file__": value, "here": os.path.dirname(value)}
        fileConfig(value, defaults=defaults, disable_existing_loggers=False)


def reopen():
    """Opens the files of all handlers anew, since somebody has renamed them. Returns a sentence
    about each that cannot be: its old file is kept.
    """
    failed = []
    loggers = [logging.getLogger(), *list(logging.Logger.manager.loggerDict.values())]
    for handler in {handler for logger in loggers for handler in getattr(logger, "handlers", ())}:
        if not isinstance(handler, logging.FileHandler):
            continue
        with handler.lock:
            # Without a stream it opens its file when there is something to write.
            if handler.stream is not None:
                try:
                    old, handler.stream = handler.stream, handler._open()
                    old.close()
                except OSError as error:
                    failed.append(f"cannot open {handler.baseFilename}: {error.strerror}")
    return failed


def table(value):
    import json  # Not for those who set up nothing: it costs each start a millisecond.

    found = json.loads(value) if isinstance(value, (str, bytes)) else value
    if not isinstance(found, dict):
        raise ValueError("a table is expected, as logging.config.dictConfig takes it")
    return found


def reason(error):
    """Its sentence, and those of what has caused it: logging tells the cause apart."""
    sentences = []
    while error is not None and len(sentences) < 4:
        sentence = str(error)
        if isinstance(error, OSError) and error.filename is not None:
            sentence = f"cannot read {error.filename}: {error.strerror}"
        elif isinstance(error, KeyError):
            sentence = f"{sentence} is not there, as a section or a name"
        if sentence and not any(sentence in said for said in sentences):
            sentences.append(sentence)
        error = error.__cause__
    return ": ".join(sentences) or "it cannot be read"


class Handler(logging.Handler):
    def __init__(self, write):
        super().__init__()
        self.write = write

    def emit(self, record):
        try:
            self.write(record.levelno, self.format(record))
        except Exception:
            self.handleError(record)
