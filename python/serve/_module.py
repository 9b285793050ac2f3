"""Makes `import serve` work in an application, with the module that the binary brings along."""

import sys
import types
from importlib.machinery import ModuleSpec


class Finder:
    """The last to be asked: a module `serve` of the application's own is found before."""

    def __init__(self, module):
        self.module = module

    def find_spec(self, name, path=None, target=None):
        if name == self.module.__name__:
            return ModuleSpec(name, self, origin="built-in")
        return None

    def create_module(self, spec):
        return self.module

    def exec_module(self, module):
        """It is there already."""


def offer(source, version):
    """Returns the module made of `source`; it is imported only if the application asks for it."""
    module = types.ModuleType("serve")
    exec(compile(source, "<serve>/__init__.py", "exec"), vars(module))
    module.__version__ = version
    sys.meta_path.append(Finder(module))
    return module
