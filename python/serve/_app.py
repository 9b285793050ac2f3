"""Loads the application that the command line names.

Runs in a worker, or in the mold when the application is preloaded. Whatever is
wrong ends in a Refusal: an exit code and one sentence that says what to do.

What only a refusal or an unusual application needs is imported where it is needed: each such
module costs the start of a server milliseconds.
"""

import importlib
import os
import sys
import types

CANNOT_IMPORT = 3
NOT_AN_APPLICATION = 4


class Refusal(Exception):
    """Why there is no application: (exit code, sentence, traceback or '')."""


def load(spec):
    """Returns the WSGI callable of 'module', 'module:attribute' or 'module:factory(arguments)'.

    Without an attribute, 'application' (PEP 3333's name) and 'app' are tried.
    """
    module_name, colon, expression = spec.partition(":")
    if not module_name or (colon and not expression):
        raise Refusal(
            NOT_AN_APPLICATION,
            f"'{spec}' does not name an application: write module:attribute, as in main:app",
            "",
        )
    if "/" in module_name or (module_name.endswith(".py") and os.path.exists(module_name)):
        raise Refusal(CANNOT_IMPORT, path_for_a_module(module_name, expression), "")
    module = import_module(module_name, expression)
    if is_djangos_tool(module, expression):
        raise Refusal(NOT_AN_APPLICATION, instead_of_manage(module.__file__), "")
    found = (
        evaluate(module, module_name, expression) if expression else default(module, module_name)
    )
    return checked(found, spec)


def import_module(name, expression):
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(error.name + ".")):
            code, sentence, trace = raised(f"importing '{name}'", error)
            hint = module_above(error.name, name, expression) or missing_package(error.name)
            raise Refusal(code, sentence + hint, trace) from None
        raise Refusal(CANNOT_IMPORT, missing_module(name, error.name), "") from None
    except BaseException as error:
        raise Refusal(*raised(f"importing '{name}'", error)) from None


def path_for_a_module(path, expression):
    file = path.removesuffix(".py") + ".py"
    if is_manage(file):
        return instead_of_manage(file)
    folder, name = os.path.split(os.path.abspath(file).removesuffix(".py"))
    if name != "wsgi":
        expression = expression or "app"
    elif is_project(folder):
        folder, package = os.path.split(folder)
        name = f"{package}.{name}"
    while is_package(folder):
        folder, package = os.path.split(folder)
        name = f"{package}.{name}"
    application = f"{name}:{expression}" if expression else name
    there = seen_from_here(folder, os.path.isabs(path))
    return f"'{path}' is a file, and a module is wanted: write {application}{there}"


def is_package(folder):
    """Whether modules of it have to be called by its name; the working directory's need not."""
    inside = os.path.exists(os.path.join(folder, "__init__.py"))
    return inside and folder != os.getcwd() and os.path.basename(folder).isidentifier()


def is_project(folder):
    """Whether that is the folder of settings of a Django project: its manage.py is beside it."""
    beside = os.path.join(os.path.dirname(folder), "manage.py")
    return os.path.exists(beside) and os.path.basename(folder).isidentifier()


def seen_from_here(folder, absolute):
    """What else to write, to start in that folder."""
    path = os.path.relpath(folder)
    return "" if path == os.curdir else f" --chdir {folder if absolute else path}"


def is_djangos_tool(module, expression):
    """Whether somebody has named Django's manage.py, which has no application."""
    usual = ("app", "application")
    named = expression in ("", *usual, "main", "main()")
    has_one = any(hasattr(module, name) for name in usual)
    return named and not has_one and is_manage(getattr(module, "__file__", None) or "")


def is_manage(file):
    if os.path.basename(file) != "manage.py":
        return False
    try:
        with open(file, encoding="utf-8", errors="replace") as source:
            return "DJANGO_SETTINGS_MODULE" in source.read()
    except OSError:
        return False


def instead_of_manage(file):
    folder = os.path.dirname(os.path.abspath(file))
    entries = os.scandir(folder)
    found = [item.name for item in entries if os.path.exists(os.path.join(item.path, "wsgi.py"))]
    where = (
        f"{min(found)}.wsgi{seen_from_here(folder, os.path.isabs(file))}"
        if found
        else "PROJECT.wsgi, where PROJECT is the folder of Django's wsgi.py"
    )
    return (
        f"manage.py is Django's command line, and its WSGI application is elsewhere: write {where}"
    )


def missing_module(name, missing):
    import difflib

    here = os.getcwd()
    names = [entry for entry in map(module_in, os.scandir(here)) if entry]
    module, _, attribute = missing.rpartition(".")
    elsewhere = folder_with(here, missing.partition(".")[0])
    if module in names:
        close = [f"{module}:{attribute}"]
    elif elsewhere in names:
        # A package of this folder: its modules are to be found by that name only.
        close = [f"{elsewhere}.{missing}"]
    else:
        close = difflib.get_close_matches(missing, names, n=1)
    if close:
        hint = f"; did you mean '{close[0]}'?"
    elif elsewhere:
        hint = f"; it is in {elsewhere}: add --chdir {elsewhere}"
    else:
        hint = "; --chdir sets the directory to look in"
    return f"there is no module '{missing}' in {here} or elsewhere on sys.path{hint}"


def module_in(entry):
    """The module that a directory entry is, or ''."""
    if entry.name.endswith(".py"):
        return entry.name.removesuffix(".py")
    return entry.name if os.path.exists(os.path.join(entry.path, "__init__.py")) else ""


def folder_with(here, name):
    """Where in the neighbourhood that module is: people start in the wrong folder."""
    near = [".."] + sorted(entry.name for entry in os.scandir(here) if entry.is_dir())
    for folder in near:
        for file in (f"{name}.py", os.path.join(name, "__init__.py")):
            if os.path.exists(os.path.join(here, folder, file)):
                return folder
    return ""


def module_above(missing, name, expression):
    """What to do if what the application misses is in the folder above, to end a sentence."""
    first = missing.partition(".")[0]
    if first in sys.modules:
        return ""
    folder = os.getcwd()
    here = os.path.basename(folder)
    if first == here and (os.path.exists("__init__.py") or is_project(folder)):
        # The application has been started inside of its own package.
        spec = f"{here}.{name}:{expression}" if expression else f"{here}.{name}"
        quoted = f"'{spec}'" if spec.endswith(")") else spec
        return f"; it is in ..: write {quoted} --chdir .."
    files = (f"{first}.py", os.path.join(first, "__init__.py"))
    if any(os.path.exists(os.path.join("..", file)) for file in files):
        return "; it is in ..: add --pythonpath .."
    return ""


def missing_package(name):
    """What to do about a package that is not there, to end a sentence."""
    settings = os.environ.get("DJANGO_SETTINGS_MODULE", "")
    if f"{settings}.".startswith(f"{name}."):
        return f"; DJANGO_SETTINGS_MODULE is '{settings}': is that right?"
    for folder in (".venv", "venv", "env"):
        inactive = os.path.realpath(folder) != os.path.realpath(sys.prefix)
        if inactive and os.path.exists(os.path.join(folder, "pyvenv.cfg")):
            return (
                f"; the virtual environment {folder} is not active: "
                f"run `. {folder}/bin/activate` first, or add --python {folder}"
            )
    if name.partition(".")[0] in sys.modules:
        return ""  # The package is there, and lacks a module: not a matter of installing.
    if sys.prefix != sys.base_prefix:
        return (
            f"; install it into the virtual environment {sys.prefix}, "
            "or if it is yours, see --pythonpath and --chdir"
        )
    return "; activate the application's virtual environment first, or name it with --python"


def default(module, module_name):
    for name in ("application", "app"):
        if hasattr(module, name):
            return getattr(module, name)
    raise Refusal(
        NOT_AN_APPLICATION,
        f"module '{module_name}' has neither 'application' nor 'app'{offers(module, module_name)}",
        "",
    )


def offers(module, module_name):
    """What the operator may have meant: callables of the module, imported classes and all aside."""
    found = {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and callable(value) and is_own(value, module_name)
    }
    fitting = {name: fit(value) for name, value in found.items()}
    # A program's own, and no factory.
    if fitting.get("main") == Fit.FACTORY:
        del found["main"], fitting["main"]
    # The applications before the factories, and those before what is neither.
    order = [Fit.APPLICATION, Fit.FACTORY]
    names = [name for rank in order for name in found if fitting[name] == rank] or list(found)
    if not names:
        usual = [name for name in ("wsgi", "app", "main") if has_submodule(module, name)]
        if usual:
            return f"; no application is defined there; did you mean '{module_name}.{usual[0]}'?"
        return f"; no application is defined there: is '{module_name}' the module that you mean?"
    spec = f"{module_name}:{names[0]}"
    if fitting[names[0]] == Fit.FACTORY:
        spec = f"'{spec}()'"  # A shell wants quotes around parentheses.
    return f"; it has {', '.join(names[:5])}: name one, as in {spec}"


def has_submodule(module, name):
    folders = getattr(module, "__path__", [])
    return any(os.path.exists(os.path.join(folder, f"{name}.py")) for folder in folders)


#: CO_COROUTINE, CO_ITERABLE_COROUTINE and CO_ASYNC_GENERATOR of a code object's flags.
ASYNCHRONOUS = 0x80 | 0x100 | 0x200


class Fit:
    """How a callable can be called. No enum.Enum, whose import alone takes milliseconds."""

    APPLICATION = "application"
    ASGI = "ASGI application"
    FACTORY = "factory"
    NEITHER = "neither"


def fit(found):
    """Judged by its parameters; what hides them counts as an application."""
    if is_usual(found):
        return Fit.APPLICATION
    import inspect

    call = found if inspect.isroutine(found) else getattr(found, "__call__", None)  # noqa: B004
    try:
        if inspect.iscoroutinefunction(call):
            return Fit.ASGI
        signature = inspect.signature(found, follow_wrapped=False)
    except Exception:
        return Fit.APPLICATION
    if list(signature.parameters)[:3] == ["scope", "receive", "send"]:
        return Fit.ASGI
    if binds(signature, {}, None):
        return Fit.APPLICATION
    return Fit.FACTORY if binds(signature) else Fit.NEITHER


def is_usual(found):
    """Whether it is a plain function of two arguments, or an object whose class has one."""
    is_function = type(found) is types.FunctionType
    call = found if is_function else getattr(type(found), "__call__", None)  # noqa: B004
    if type(call) is not types.FunctionType or vars(call):
        return False
    code = call.__code__
    positional = 2 if is_function else 3
    special = code.co_kwonlyargcount or code.co_flags & ASYNCHRONOUS
    return code.co_argcount == positional and not special


def binds(signature, *arguments):
    try:
        signature.bind(*arguments)
    except TypeError:
        return False
    return True


def is_own(value, module_name):
    """Defined by the module, or an instance it made: an application object of a framework."""
    import inspect

    if inspect.isroutine(value) or inspect.isclass(value):
        return value.__module__ == module_name
    return True


def evaluate(module, module_name, expression):
    if expression.isidentifier() and hasattr(module, expression):
        return getattr(module, expression)
    import ast

    try:
        node = ast.parse(expression, mode="eval").body
    except SyntaxError:
        node = None
    if isinstance(node, ast.Call):
        return call_factory(module, module_name, expression, node)
    return attribute(module, module_name, expression, node)


def attribute(module, module_name, expression, node):
    import ast
    import difflib

    names = []
    while isinstance(node, ast.Attribute):
        names.insert(0, node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        raise Refusal(
            NOT_AN_APPLICATION,
            f"'{expression}' is neither an attribute nor a call with literal arguments, "
            f"as in {module_name}:app or '{module_name}:create_app()'",
            "",
        )
    found = module
    for name in [node.id, *names]:
        if not hasattr(found, name):
            close = difflib.get_close_matches(name, dir(found), n=1)
            hint = f"; did you mean '{close[0]}'?" if close else offers(module, module_name)
            raise Refusal(
                NOT_AN_APPLICATION,
                f"module '{module_name}' has no attribute '{expression}'{hint}",
                "",
            )
        found = getattr(found, name)
    return found


def call_factory(module, module_name, expression, node):
    import ast

    factory = attribute(module, module_name, ast.unparse(node.func), node.func)
    try:
        args = [ast.literal_eval(arg) for arg in node.args]
        kwargs = {keyword.arg: ast.literal_eval(keyword.value) for keyword in node.keywords}
    except ValueError:
        raise Refusal(
            NOT_AN_APPLICATION,
            f"the arguments of '{expression}' must be literals: numbers, strings, True, lists …",
            "",
        ) from None
    if not callable(factory):
        raise Refusal(
            NOT_AN_APPLICATION,
            f"'{module_name}:{ast.unparse(node.func)}' is {a(factory)}, it cannot be called",
            "",
        )
    try:
        return factory(*args, **kwargs)
    except BaseException as error:
        raise Refusal(*raised(f"calling '{expression}'", error)) from None


def checked(found, spec):
    if found is None and spec.endswith(")"):
        raise Refusal(
            NOT_AN_APPLICATION,
            f"'{spec}' returned None instead of an application: is a 'return' missing?",
            "",
        )
    if not callable(found):
        raise Refusal(
            NOT_AN_APPLICATION, f"'{spec}' is {a(found)}, not a WSGI application (a callable)", ""
        )
    fitting = fit(found)
    if fitting == Fit.FACTORY and spec.endswith(":main"):
        fitting = Fit.NEITHER
    if sentence := MISFITS.get(fitting):
        raise Refusal(NOT_AN_APPLICATION, sentence.format(spec=spec), "")
    return found


MISFITS = {
    Fit.ASGI: "'{spec}' is an ASGI application (its call is a coroutine); this version serves WSGI "
    "applications: use an ASGI server for it, or wrap it in a2wsgi.ASGIMiddleware",
    Fit.FACTORY: "'{spec}' takes no arguments: it is a factory, not an application; "
    "write '{spec}()'",
    Fit.NEITHER: "'{spec}' is not a WSGI application: it cannot be called with the two arguments "
    "environ and start_response",
}


def a(value):
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def raised(doing, error):
    """The parts of a Refusal for an exception, its traceback without our own frames."""
    import traceback

    frame = error.__traceback__
    while frame is not None and not of_the_application(frame.tb_frame.f_code.co_filename):
        frame = frame.tb_next
    trace = "".join(traceback.format_exception(type(error), error, frame))
    text = str(error).splitlines()
    reason = f": {text[0]}" if text else ""
    return CANNOT_IMPORT, f"{doing} raised {type(error).__name__}{reason}", trace


def of_the_application(filename):
    return (
        not filename.startswith(("<frozen importlib", "<serve>")) and filename != importlib.__file__
    )


def insert_directory(path):
    """Makes the working directory importable first, as `python` does for a script."""
    if path not in sys.path:
        sys.path.insert(0, path)
