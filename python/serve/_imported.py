"""Does something as soon as the application has imported a module, if it ever does."""

import sys


def when_imported(name, act):
    """Calls `act` once, before whoever imports the module `name` has it."""
    sys.meta_path.insert(0, Finder(name, act))


class Finder:
    """The first to be asked, for the sake of one module; for all others, it knows nothing."""

    def __init__(self, name, act):
        self.name = name
        self.act = act

    def find_spec(self, name, path=None, target=None):
        if name != self.name or self.act is None:
            return None
        # Looking it up is not importing it: it may be asked for again.
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None:
                spec.loader = Loader(spec.loader, self)
                return spec
        return None

    def imported(self):
        act, self.act = self.act, None
        if act is not None:
            act()


class Loader:
    """Another loader, until it has loaded the module."""

    def __init__(self, loader, finder):
        self.loader = loader
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.loader, name)

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module):
        module.__spec__.loader = module.__loader__ = self.loader
        self.loader.exec_module(module)
        self.finder.imported()
