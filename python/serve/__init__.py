"""What an application may import from its server: `RequestTimeout` and `__version__`.

The binary brings this module along, for applications whose environment has no module of this name.
"""

__all__ = ["RequestTimeout", "__version__"]

__version__: str


def __getattr__(name: str) -> str:
    if name == "__version__":
        from serve._serve import __version__

        return __version__
    raise AttributeError(f"module 'serve' has no attribute {name!r}")


class RequestTimeout(BaseException):
    """Raised in a request whose time is over; its client has been answered 504 already.

    No Exception, so that `except Exception` does not keep a request alive that is to end. Catch it
    to clean up, and let it pass.
    """
