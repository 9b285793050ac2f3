# For type checkers, to whom a module with a `__getattr__` has every attribute.

__all__ = ["RequestTimeout", "__version__"]

__version__: str

class RequestTimeout(BaseException): ...
