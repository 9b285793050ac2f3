"""What an application may import from its server.

The binary brings this module along, for applications whose environment has no module of this name.
"""


class RequestTimeout(BaseException):
    """Raised in a request whose time is over; its client has been answered 504 already.

    No Exception, so that `except Exception` does not keep a request alive that is to end. Catch it
    to clean up, and let it pass.
    """
