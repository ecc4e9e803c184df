"""The points at which a module can be changed, found in its syntax tree; a change is a replacement of source text.

Left out, since no test of behaviour can or should notice them:

- words: docstrings, every string and f-string, the arguments of an exception that is raised, all of a log call;
- declarations: imports, annotations, decorators, `ConfigDict`, `__main__` modules; and that a local name or a field of
  a new object is set at all, since the interpreter would notice;
- invariants that only stop us: `assert` and the `strict` of `zip`; fault points, which do nothing outside chaos tests;
- time: constants in capitals, sleeps, and numbers given to anything named after seconds, time-outs or pauses;
- sizes: numbers of 100 and more. A chunk of 1025 entries is as good as one of 1024.
"""

from __future__ import annotations

import ast
import copy
import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

PACKAGES = (
    *("services/trajectories", "services/store", "services/controller", "services/journal"),
    *("services/learner/*.py", "services/learner/batches", "services/learner/recovery", "services/drift/guard.py"),
)
LARGE_NUMBER = 100
TIMES = re.compile(r"seconds|timeout|pause|delay|patience|deadline")
COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    **{ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq},
    **{ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In},
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult},
    **{ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult, ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr},
}
LEFT_OUT_CALLS = ("fault", "time.sleep", "structlog.get_logger", "ConfigDict")
CALLS = {"min": "max", "max": "min", "any": "all", "all": "any", "sorted": "list", "reversed": "list"}


@dataclass(frozen=True)
class Point:
    """One change. Points with the same words in the same function are numbered, so that `key` names one."""

    path: str
    scope: str
    line: int
    start: int
    end: int
    """Bytes of the source that `new` replaces."""
    new: str
    what: str
    """The change in words."""
    occurrence: int = 1

    @property
    def key(self) -> str:
        """Names the point as long as its function has these words, wherever it moves in its file."""
        again = f" #{self.occurrence}" if self.occurrence > 1 else ""
        return f"{self.path} {self.scope}: {self.what}{again}"

    def apply(self, source: bytes) -> bytes:
        return source[: self.start] + self.new.encode() + source[self.end :]


def sample(root: Path, seed: int, count: int, below: str = "") -> list[Point]:
    """`count` points of the modules below a path. A change of the code leaves most of a seed's sample as it is."""
    paths = [path for path in modules(root) if path.startswith(below)]
    points = [point for path in paths for point in points_of(path, (root / path).read_bytes())]
    return sorted(points, key=lambda point: hashlib.blake2b(f"{seed} {point.key}".encode()).digest())[:count]


def modules(root: Path) -> list[str]:
    """The modules that are sampled, by their paths below `root`."""
    found = []
    for name in PACKAGES:
        found += root.glob(name) if name.endswith(".py") else (root / name).rglob("*.py")
    return sorted(str(path.relative_to(root)) for path in found if not path.name.startswith("__"))


def points_of(path: str, source: bytes) -> list[Point]:
    """All points of one module, in the order of its text."""
    finder = _Finder(path, source)
    finder.visit(ast.parse(source))
    seen: Counter[str] = Counter()
    numbered = []
    for point in finder.points:
        seen[point.key] += 1
        numbered.append(replace(point, occurrence=seen[point.key]))
    return numbered


class _Finder(ast.NodeVisitor):
    def __init__(self, path: str, source: bytes) -> None:
        self._path = path
        self._source = source
        self._starts = [0]
        for line in source.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))
        self._scope: list[str] = []
        self.points: list[Point] = []

    def _add(self, node: ast.expr | ast.stmt, new: str, what: str = "") -> None:
        assert node.end_lineno is not None and node.end_col_offset is not None
        start = self._starts[node.lineno - 1] + node.col_offset
        end = self._starts[node.end_lineno - 1] + node.end_col_offset
        scope = ".".join(self._scope) or "module"
        what = what or f"{_on_one_line(self._source[start:end].decode())} -> {new}"
        self.points.append(Point(self._path, scope, node.lineno, start, end, new, what))

    def generic_visit(self, node: ast.AST) -> None:
        """Go where a change could matter: never into annotations, decorators, words and assertions."""
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST) and not _is_left_out(child):
                    self.visit(child)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._scope.append(node.name)
        self.generic_visit(node)
        self._scope.pop()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._scope.append(node.name)
        body = [statement for statement in node.body if not _is_text(statement)]
        gives_nothing = isinstance(node.returns, ast.Constant) and node.returns.value is None
        if gives_nothing and len(body) > 1 and node.name != "__init__":
            self._add(body[0], "return", "returns at once")
        self.generic_visit(node)
        self._scope.pop()

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call):
            self._add(node, "pass")
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        kept = all(isinstance(target, ast.Attribute | ast.Subscript) for target in node.targets)
        if kept and self._scope[-1:] != ["__init__"]:
            self._add(node, "pass")
        if not _is_tuning(node.targets):
            self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._add(node, "pass")
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if not _is_tuning([node.target]):
            self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> None:
        self._add(node, "pass")

    def visit_Delete(self, node: ast.Delete) -> None:
        self._add(node, "pass")

    def visit_Continue(self, node: ast.Continue) -> None:
        self._add(node, "pass")

    def visit_Break(self, node: ast.Break) -> None:
        self._add(node, "pass")

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is not None and not (isinstance(node.value, ast.Constant) and node.value.value is None):
            self._add(node, "return None")
        self.generic_visit(node)

    def _negate(self, test: ast.expr) -> None:
        if not isinstance(test, ast.Compare | ast.UnaryOp):  # those are changed by themselves
            self._add(test, f"(not ({ast.unparse(test)}))")

    def visit_If(self, node: ast.If) -> None:
        self._negate(node.test)
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._negate(node.test)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for test in node.ifs:
            self._negate(test)
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            self._add(node, f"({ast.unparse(node.operand)})")
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        changed = copy.deepcopy(node)
        changed.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        self._add(node, f"({ast.unparse(changed)})")
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        changed = copy.deepcopy(node)
        changed.ops[0] = COMPARISONS[type(node.ops[0])]()
        self._add(node, f"({ast.unparse(changed)})")
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if type(node.op) in ARITHMETIC and not any(map(_is_word, (node.left, node.right))):
            changed = copy.deepcopy(node)
            changed.op = ARITHMETIC[type(node.op)]()
            self._add(node, f"({ast.unparse(changed)})")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id in CALLS:
            changed = copy.deepcopy(node)
            changed.func = ast.Name(CALLS[node.func.id])
            if changed.func.id == "list":
                changed.keywords = []
            self._add(node, ast.unparse(changed))
        for at, keyword in enumerate(node.keywords):
            if keyword.arg not in (None, "strict"):
                changed = copy.deepcopy(node)
                del changed.keywords[at]
                self._add(node, ast.unparse(changed), f"{ast.unparse(node.func)} without {ast.unparse(keyword)}")
        self.generic_visit(node)

    def visit_keyword(self, node: ast.keyword) -> None:
        if node.arg is None or not (TIMES.search(node.arg) or node.arg == "strict"):
            self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self._add(node, str(not node.value))
        elif isinstance(node.value, int | float) and abs(node.value) < LARGE_NUMBER:
            self._add(node, f"{node.value + 1}")


def _is_left_out(node: ast.AST) -> bool:
    if isinstance(node, ast.Import | ast.ImportFrom | ast.Assert | ast.JoinedStr):
        return True
    call = node.value if isinstance(node, ast.Expr) else node
    if not isinstance(call, ast.Call):
        return False
    called = ast.unparse(call.func)
    return called.startswith("log.") or called in LEFT_OUT_CALLS


def _is_tuning(targets: Sequence[ast.expr]) -> bool:
    """Constants in capitals, and whatever is named after a time."""
    names = [ast.unparse(target) for target in targets]
    return any(name.isupper() or TIMES.search(name.lower()) for name in names)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_word(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str | bytes))


def _on_one_line(text: str) -> str:
    return " ".join(text.split())
