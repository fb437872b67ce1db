"""One definition as text in which what it refers to is resolved, and whether it does something when it is imported.

The text is that of the syntax tree, without comments and docstrings. In it a name of the project's is a number in
brackets, which stands for what is referred to, and any other imported name is written in full. So the text stays the
same when a module is moved or renamed, and another one when a name comes to mean something else.
"""

import ast
import builtins
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from elf.artifacts.definitions import FUNCTIONS, IMPORTS, WHOLE, Modules, Target
from elf.errors import ElfError

HARMLESS = (
    *("collections.", "contextlib.contextmanager", "dataclasses.", "enum.", "fractions."),
    *(f"functools.{name}" for name in ("cache", "cached_property", "lru_cache", "partial", "singledispatch", "wraps")),
    *(
        f"itertools.{name}"
        for name in ("chain", "combinations", "count", "pairwise", "product", "repeat", "zip_longest")
    ),
    *("operator.attrgetter", "operator.itemgetter"),
    *("logging.getLogger", "math.", "pathlib.", "pydantic.", "re.compile", "types."),
    *(f"pyarrow.{name}" for name in ("bool_", "field", "float32", "float64", "int64", "list_", "schema", "string")),
    *(
        "torch.autograd.function.once_differentiable",
        "torch.device",
        "torch.inference_mode",
        "torch.no_grad",
        "typing.",
    ),
)
"""What may be called while a module is imported without a trace elsewhere; what ends in a dot is all below it."""

HARMLESS_BUILTINS = {
    *(
        "abs",
        "all",
        "any",
        "bool",
        "bytes",
        "classmethod",
        "dict",
        "divmod",
        "enumerate",
        "float",
        "frozenset",
        "getattr",
    ),
    *(
        "int",
        "isinstance",
        "len",
        "list",
        "max",
        "min",
        "object",
        "pow",
        "property",
        "range",
        "repr",
        "reversed",
        "round",
    ),
    *("set", "slice", "sorted", "staticmethod", "str", "sum", "tuple", "zip"),
}
HARMLESS_METHODS = {
    *(
        "format",
        "fromkeys",
        "get",
        "getter",
        "items",
        "join",
        "joinpath",
        "keys",
        "maketrans",
        "removeprefix",
        "resolve",
    ),
    *("setter", "split", "splitlines", "strip", "union", "values", "with_suffix"),
}
BASES = ("abc.", "ast.", "enum.", "logging.", "pickle.", "pydantic.", "torch.", "typing.", "yaml.")
"""Libraries whose base classes do nothing to others when a class is derived from them."""

RUN_BY_CONSTRUCTION = {"__init__", "__new__", "__post_init__", "__set_name__", "__setattr__", "model_post_init"}
RUN_BY_DERIVATION = {"__init_subclass__", "__set_name__", "__class_getitem__"}

LOOKS_UP = (
    *("builtins.", "gc.", "pkgutil.", "pydoc.", "runpy.", "sys.modules", "pydantic.ImportString"),
    *("importlib.__import__", "importlib.import_module", "importlib.metadata.EntryPoint", "importlib.reload"),
    *("importlib.util.", "inspect.getmodule", "sys._getframe"),
)
LOOKS_UP_AS_VALUES = ("builtins", "importlib", "sys")
"""Modules of which an attribute may be such a function: they may not be handed on as values."""
LOOKS_UP_BUILTINS = {"__builtins__", "__import__", "eval", "exec"}
LOOKS_UP_ATTRIBUTES = {"__subclasses__", "__globals__", "__builtins__"}
"""What finds code by other ways than names, so that nobody can say what is found."""

OF_THE_MODULE = {"__name__", "__file__", "__package__", "__spec__", "__path__"}


UNKNOWN = ast.Name("⟦anything⟧", ast.Load())
"""Called, so to say, where code may run that no call shows."""


@dataclass(frozen=True)
class Text:
    """A definition with its references resolved.

    Attributes
    ----------
    text : str
    references : tuple of tuple of Target
        What the numbers in the text stand for; several things, where a name may be one or another.
    loads : tuple of str
        Modules that are imported inside.
    """

    text: str
    references: tuple[tuple[Target, ...], ...]
    loads: tuple[str, ...]


def text_of(modules: Modules, module: str, name: str, *, may_look_up: bool = False) -> Text:
    """Return a definition as text; for ``WHOLE`` all of its module, with what it imports and, of a package, holds.

    Parameters
    ----------
    modules : Modules
    module, name : str
    may_look_up : bool
        Whether it may import modules by a name that it computes.

    Raises
    ------
    ElfError
        If the definition finds code by other ways than names.
    """
    if not modules.exists(module):
        return Text("", (), ())
    known = modules.module(module)
    statements = [s for s in known.body if not isinstance(s, IMPORTS)] if name == WHOLE else [known.definitions[name]]
    inside = {bound for statement in statements for bound in _bound_inside(statement, inside=False)}
    resolver = _Resolver(modules, module, name or "all of it", inside, may_look_up)
    lines = [ast.unparse(resolver.visit(statement)) for statement in statements]
    if name == WHOLE:
        for imported in known.imported:
            resolver.also[imported] = modules.meaning(module, imported)
        for held in modules.inside(module):
            resolver.also[held.rpartition(".")[2]] = (Target(held, WHOLE),)
    lines += [f"{written} = {resolver.token(targets)}" for written, targets in sorted(resolver.also.items())]
    return Text("\n".join([*known.future, *lines]), tuple(resolver.references), tuple(resolver.loads))


class _Resolver(ast.NodeTransformer):
    """Puts what names stand for in their place.

    A name that is bound inside of the definition, too, stays as it is written, and what it means outside counts as
    well: so it does not matter where exactly it is bound.
    """

    def __init__(self, modules: Modules, module: str, name: str, inside: set[str], may_look_up: bool) -> None:
        self.modules, self.module, self.name = modules, module, name
        self.inside, self.may_look_up = inside, may_look_up
        self.references: list[tuple[Target, ...]] = []
        self.loads: list[str] = []
        self.also: dict[str, tuple[Target, ...]] = {}

    def token(self, targets: tuple[Target, ...]) -> str:
        if len(targets) == 1 and targets[0].is_outside:
            return f"⟦{targets[0].name}⟧"
        if targets not in self.references:
            self.references.append(targets)
        return f"⟦{self.references.index(targets)}⟧"

    def generic_visit(self, node: ast.AST) -> ast.AST:
        """Return a copy: the tree itself is that of the module."""
        made = type(node)()
        made.lineno = 0  # Written text asks for it.
        for name, value in ast.iter_fields(node):
            if isinstance(value, list):
                visited = [self.visit(one) if isinstance(one, ast.AST) else one for one in value]
                value = [one for some in visited for one in (some if isinstance(some, list) else [some])]
            elif isinstance(value, ast.AST):
                value = self.visit(value)
            setattr(made, name, value)
        return made

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return node if not isinstance(node.ctx, ast.Load) else self._resolved(node, [])

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        if node.attr in LOOKS_UP_ATTRIBUTES:
            self._refuse(node.attr)
        attributes: list[str] = []
        base: ast.expr = node
        while isinstance(base, ast.Attribute):
            attributes.insert(0, base.attr)
            base = base.value
        if not isinstance(base, ast.Name):
            return self.generic_visit(node)
        if isinstance(base.ctx, ast.Load) and base.id not in self.inside and not isinstance(node.ctx, ast.Load):
            # A module's attribute that is set: what it is now may be read by anyone who has the module.
            whole = self.modules.meaning(self.module, base.id)
            self.also |= {base.id: whole} if any(target.is_module for target in whole) else {}
        return self._resolved(base, attributes, node.ctx)

    def visit_Call(self, node: ast.Call) -> ast.expr:
        first = node.args[0] if len(node.args) == 1 else None
        names_logger = dotted(self.modules, self.module, node.func) == "logging.getLogger"
        if names_logger and isinstance(first, ast.Name) and first.id == "__name__":
            # The name of a logger is read by people.
            return ast.Call(self.visit(node.func), [], [])
        if isinstance(node.func, ast.Name) and node.func.id in ("globals", "locals", "vars") and not node.args:
            self.also[node.func.id] = (Target(self.module, WHOLE),)
        return self.generic_visit(node)

    def visit_Import(self, node: ast.Import | ast.ImportFrom):
        known = self.modules.module(self.module)
        self.loads += self.modules.imported_by(known, node)
        assigned = []
        for name, (base, taken) in known.bindings(node):
            of_project = self.modules.is_of_project(base)
            if isinstance(node, ast.Import) and of_project and name == base:
                raise ElfError(
                    f"{self.module}: {self.name} imports {base} under its full name inside; write 'from ... import'"
                )
            if taken is not None:
                targets = self.modules.attribute(base, taken)
            else:
                targets = (Target(base, WHOLE),) if of_project else (Target("", base),)
            if any(_is_one_of(target.name, LOOKS_UP) for target in targets if target.is_outside):
                self._refuse(targets[0].name)
            assigned.append(f"{name} = {self.token(targets)}")
        loaded = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        assigned += [f"import {name}" for name in loaded if not self.modules.exists(name)]
        return [ast.Expr(ast.Name(text, ast.Load())) for text in assigned]

    visit_ImportFrom = visit_Import

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.expr:
        """Write a formatted string as a call: Pythons differ in how they quote it, and in empty texts inside."""
        parts = [part for part in node.values if not (isinstance(part, ast.Constant) and part.value == "")]
        return ast.Call(ast.Name("⟦f⟧", ast.Load()), [self.visit(part) for part in parts], [])

    def visit_FormattedValue(self, node: ast.FormattedValue) -> ast.expr:
        shown = [] if node.format_spec is None else [self.visit(node.format_spec)]
        return ast.Tuple([self.visit(node.value), ast.Constant(node.conversion), *shown], ast.Load())

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        # A type is written as a string where it is defined further down.
        generic = dotted(self.modules, self.module, node.value)
        if generic.startswith("typing.") and generic != "typing.Literal":
            self._in_strings(node.slice)
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.arg:
        self._in_strings(node.annotation)
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AnnAssign:
        self._in_strings(node.annotation)
        return self.generic_visit(node)

    def visit_FunctionDef(self, node):
        self._in_strings(node.returns)
        return self.generic_visit(node)

    visit_AsyncFunctionDef = visit_FunctionDef

    def _resolved(self, base: ast.Name, attributes: list[str], ctx: ast.expr_context | None = None) -> ast.expr:
        if base.id in OF_THE_MODULE and base.id not in self.inside:
            base = ast.Name(f"⟦{base.id} of {self.module}⟧", ast.Load())
            return _with_attributes(base, attributes, ctx)
        targets = self.modules.meaning(self.module, base.id)
        if not targets and base.id in LOOKS_UP_BUILTINS and base.id not in self.inside:
            self._refuse(base.id)
        if not targets:
            return _with_attributes(base, attributes, ctx)
        left, reached = list(attributes), targets
        while len(reached) == 1 and reached[0].is_module and left:
            reached = self.modules.attribute(reached[0].module, left.pop(0))
        for written in (".".join([target.name, *left]) for target in reached if target.is_outside):
            if _is_one_of(written, LOOKS_UP) or written in LOOKS_UP_AS_VALUES:
                self._refuse(written)
        if base.id in self.inside:
            self.also[base.id] = targets
            return _with_attributes(base, attributes, ctx)
        return _with_attributes(ast.Name(self.token(reached), ast.Load()), left, ctx)

    def _in_strings(self, annotation: ast.expr | None) -> None:
        """Count what the strings of an annotation name."""
        for node in ast.walk(annotation) if annotation is not None else ():
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                for word in _names_in(node.value):
                    if meaning := self.modules.meaning(self.module, word):
                        self.also[word] = meaning

    def _refuse(self, what: str) -> None:
        if not self.may_look_up:
            raise ElfError(
                f"{self.module}: {self.name} uses {what}, so that nobody can say which code its results depend on; "
                "import what it uses by ordinary imports"
            )


def acts(modules: Modules, module: str, statement: ast.stmt) -> bool:
    """Return whether a definition may do more, when its module is imported, than bind its names.

    What it calls decides: functions of the project, and whatever is not known to leave no trace.
    """
    return any(not _is_harmless(modules, module, called) for called in _called(modules, module, statement))


def _called(modules: Modules, module: str, node: ast.AST) -> Iterator[ast.expr]:
    """Yield what is called while a statement is imported; bodies of functions are not."""
    if isinstance(node, ast.Lambda):
        return
    if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
        yield from node.decorator_list
    if isinstance(node, ast.ClassDef):
        if node.keywords:
            yield from (keyword.value for keyword in node.keywords if keyword.arg == "metaclass")
        # A base class that acts on those derived from it is called, so to say.
        yield from (UNKNOWN for base in node.bases if not _may_derive(modules, module, base))
    if isinstance(node, ast.Call):
        yield node.func
        # Functions that functions are given to may call them.
        yield from (keyword.value for keyword in node.keywords if keyword.arg in ("key", "default_factory"))
    if isinstance(node, FUNCTIONS):
        inner: Iterable[ast.AST] = [*node.decorator_list, node.args, *([node.returns] if node.returns else [])]
    else:
        inner = ast.iter_child_nodes(node)
    if isinstance(node, ast.ClassDef):
        # A statement such as a loop may do anything, and so may one that sets what is not the class's own.
        own = {bound for s in node.body for bound in _bound_at(s)}
        yield from (UNKNOWN for s in node.body if not _only_binds(s, own))
    for child in inner:
        yield from _called(modules, module, child)


def _is_harmless(modules: Modules, module: str, called: ast.expr) -> bool:
    if isinstance(called, ast.Call):
        calls = [called.func, *(called.args[:1] if dotted(modules, module, called.func) == "functools.partial" else [])]
        return all(_is_harmless(modules, module, one) for one in calls)
    if isinstance(called, ast.Lambda):
        return all(_is_harmless(modules, module, inner) for inner in _called(modules, module, called.body))
    if outside := dotted(modules, module, called):
        return _is_one_of(outside, HARMLESS)
    targets = _targets(modules, module, called)
    if targets:
        return all(_is_plain_data(modules, target) for target in targets)
    if isinstance(called, ast.Name):
        return called.id in HARMLESS_BUILTINS
    if not isinstance(called, ast.Attribute) or called.attr not in HARMLESS_METHODS:
        return False
    return _is_of_python(modules, module, called.value)


def _is_of_python(modules: Modules, module: str, value: ast.expr) -> bool:
    """Whether a value is no object of the project's, whose methods may have any name."""
    if isinstance(value, ast.Call):
        return not any(not target.is_outside for target in _targets(modules, module, value.func))
    for target in _targets(modules, module, value):
        node = None if target.is_outside else modules.module(target.module).definitions.get(target.name)
        known = isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
        if not target.is_outside and not (known and _is_of_python(modules, target.module, node.value)):
            return False
    return True


def _only_binds(statement: ast.stmt, own: set[str]) -> bool:
    """Whether a statement of a class only binds names of the class, or changes what it has bound."""
    if isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        nodes = (node for target in targets for node in ast.walk(target))
        set_ = [
            node.value
            for node in nodes
            if isinstance(getattr(node, "ctx", None), ast.Store) and isinstance(node, ast.Attribute | ast.Subscript)
        ]
        return all(isinstance(value, ast.Name) and value.id in own for value in set_)
    return isinstance(statement, (*FUNCTIONS, ast.ClassDef, ast.Pass))


def _bound_at(statement: ast.stmt) -> set[str]:
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    targets = [statement.target] if isinstance(statement, ast.AnnAssign) else targets
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _is_plain_data(modules: Modules, target: Target) -> bool:
    """Whether a target is a class of fields alone: making one runs no code of the project's."""
    node = _class(modules, target)
    if node is None or node.keywords or acts(modules, target.module, node):
        return False
    methods = [s for s in node.body if isinstance(s, FUNCTIONS)]
    if any(method.name in RUN_BY_CONSTRUCTION for method in methods):
        return False
    plain = {"property", "staticmethod", "classmethod", "functools.cached_property"}
    for decorator in (d for method in methods for d in method.decorator_list):
        name = decorator.id if isinstance(decorator, ast.Name) else ""
        if name not in plain and dotted(modules, target.module, decorator) not in plain:
            return False
    fields = [s.value for s in node.body if isinstance(s, ast.AnnAssign) and s.value is not None]
    called = [node for value in fields for node in ast.walk(value) if isinstance(node, ast.Call)]
    if any(_targets(modules, target.module, keyword.value) for call in called for keyword in call.keywords):
        return False
    data = ("pydantic.BaseModel", "typing.NamedTuple", "typing.Protocol", "typing.Generic")
    for base in node.bases:
        base = base.value if isinstance(base, ast.Subscript) else base
        of_project = [one for one in _targets(modules, target.module, base) if not one.is_outside]
        known = dotted(modules, target.module, base) in data
        if not (known or (of_project and all(_is_plain_data(modules, one) for one in of_project))):
            return False
    return True


def _may_derive(modules: Modules, module: str, base: ast.expr) -> bool:
    """Whether a class can be derived from a base without running code of the project's."""
    base = base.value if isinstance(base, ast.Subscript) else base
    if isinstance(base, ast.Call):
        return True  # What is called is looked at by itself.
    if outside := dotted(modules, module, base):
        return _is_one_of(outside, BASES)
    targets = _targets(modules, module, base)
    if not targets:
        return isinstance(base, ast.Name) and hasattr(builtins, base.id)
    for target in targets:
        node = _class(modules, target)
        if node is None or node.keywords:
            return False
        if any(isinstance(s, FUNCTIONS) and s.name in RUN_BY_DERIVATION for s in node.body):
            return False
        if not all(_may_derive(modules, target.module, inner) for inner in node.bases):
            return False
    return True


def _class(modules: Modules, target: Target) -> ast.ClassDef | None:
    known = modules.module(target.module) if target.module and modules.exists(target.module) else None
    node = known.definitions.get(target.name) if known else None
    return node if isinstance(node, ast.ClassDef) else None


def _targets(modules: Modules, module: str, expression: ast.expr) -> tuple[Target, ...]:
    """Return what a name, or a module's attribute, stands for."""
    if isinstance(expression, ast.Name):
        return modules.meaning(module, expression.id)
    if isinstance(expression, ast.Attribute):
        found = _targets(modules, module, expression.value)
        if len(found) == 1 and found[0].is_module:
            return modules.attribute(found[0].module, expression.attr)
        if len(found) == 1 and found[0].is_outside:
            return (Target("", f"{found[0].name}.{expression.attr}"),)
    return ()


def dotted(modules: Modules, module: str, expression: ast.expr) -> str:
    """Return the full name of what is not of the project; empty for anything else."""
    found = _targets(modules, module, expression)
    return found[0].name if len(found) == 1 and found[0].is_outside else ""


def _is_one_of(name: str, names: Iterable[str]) -> bool:
    return any(name == one or (one.endswith(".") and f"{name}.".startswith(one)) for one in names)


def _with_attributes(base: ast.expr, attributes: list[str], ctx: ast.expr_context | None) -> ast.expr:
    for index, attribute in enumerate(attributes):
        last = index == len(attributes) - 1
        base = ast.Attribute(base, attribute, ctx if last and ctx is not None else ast.Load())
    return base


def _names_in(text: str) -> set[str]:
    try:
        return {node.id for node in ast.walk(ast.parse(text, mode="eval")) if isinstance(node, ast.Name)}
    except SyntaxError:
        return set()


def _bound_inside(node: ast.AST, *, inside: bool) -> Iterator[str]:
    """Yield every name that is bound in some scope inside of a definition, or declared there to be global."""
    scopes = (*FUNCTIONS, ast.ClassDef, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
    if inside:
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, (*FUNCTIONS, ast.ClassDef, ast.ExceptHandler, ast.MatchAs, ast.MatchStar)):
            yield from filter(None, [node.name])
        elif isinstance(node, ast.MatchMapping):
            yield from filter(None, [node.rest])
        elif isinstance(node, ast.alias):
            yield node.asname or node.name.partition(".")[0]
        elif isinstance(node, ast.Global | ast.Nonlocal):
            yield from node.names
        elif type(node).__name__ in ("TypeVar", "ParamSpec", "TypeVarTuple"):
            yield node.name
    if isinstance(node, ast.arg):
        yield node.arg
    for child in ast.iter_child_nodes(node):
        yield from _bound_inside(child, inside=inside or isinstance(node, scopes))
