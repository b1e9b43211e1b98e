"""
Expressions of 3CX → texts of ours. What cannot be said is left out of the text and noted; where a
whole condition cannot be said, ContractError says why.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from shared.crm.form.call_words import PLAIN_MOMENT
from shared.crm.importing.report import Notes
from shared.crm.importing.threecx.expressions import read_condition, read_text
from shared.crm.importing.threecx.formats import duration_function, moment_format
from shared.crm.importing.threecx.meanings import Kind, Known, Meaning, TooMuch
from shared.crm.importing.threecx.tree import (
    Choose,
    Compare,
    Join,
    Literal,
    Logic,
    Method,
    Node,
    Variable,
    constant,
)
from shared.crm.importing.threecx.writing import (
    TESTS,
    bare,
    is_on,
    negated_of,
    own_words,
    quoted,
    time_of,
    truth_of,
)
from shared.crm.language.text import compile_text
from shared.errors import BadSetting, ContractError

#: Of a text that was made: the longest that a template takes.
_LONGEST = 65_536
_LONGEST_OPERAND = 2_000
#: Texts in texts: a setting that names a setting.
_DEEPEST_INLINE = 3
_OPERATORS = {"==": "eq", "!=": "ne", "<": "lt", ">": "gt", "<=": "le", ">=": "ge"}
_BOOLEANS = {"true": "yes", "false": "no"}
#: Of a text or a list: ours, and how many arguments it may have.
_METHODS = {
    **dict.fromkeys(("tolower", "tolowerinvariant"), ("lower", {0})),
    **dict.fromkeys(("toupper", "toupperinvariant"), ("upper", {0})),
    **dict.fromkeys(("length", "count"), ("length", {0})),
    **dict.fromkeys(("item", "elementat", "getvalue"), ("item", {1})),
    "trim": ("trim", {0}),
    "first": ("item", {0}),
    "last": ("item", {0}),
    "replace": ("replace", {2}),
    "split": ("split", {1}),
    "substring": ("substring", {1, 2}),
}
_PLACES = {"first": " 0", "last": " -1"}
_COUNT = re.compile("[0-9]{1,5}")
_OF_ZONES = frozenset({"touniversaltime", "tolocaltime"})
_OF_DURATION = {"totalseconds": "seconds", "totalmilliseconds": "ms", "totalminutes": "minutes"}


@dataclass(frozen=True, slots=True)
class Words:
    """*place* is for notes. *pipe*: what every value goes through (``UrlEncode``)."""

    known: Known
    notes: Notes
    place: str
    pipe: str = ""
    depth: int = 0

    def at(self, place: str) -> Words:
        return replace(self, place=place)

    # -- what importers ask for --------------------------------------------------------------

    def of_text(self, source: str) -> str:
        """Nothing for what cannot be read or said; noted."""
        node = self.read(source)
        return self.of_node(node) if node is not None else ""

    def read(self, source: str) -> Node | None:
        """None for what is no expression; noted."""
        try:
            return read_text(source)
        except BadSetting as error:
            self.notes.left(self.place, f"{error.message}; write this text by hand")
            return None

    def of_node(self, node: Node) -> str:
        try:
            made = self._text(node)
            compile_text(made)
        except ContractError as error:
            self.notes.left(self.place, f"{error.message}; write this text by hand")
            return ""
        return made

    def of_condition(self, source: str, *, negated: bool = False) -> str | None:
        """An operand that is true or false. None for none and for what cannot be said; noted."""
        if not source.strip():
            return None
        try:
            node = read_condition(source)
            made = self.condition(negated_of(node) if negated else node)
            compile_text(f"{{{{if {made}}}}}{{{{end}}}}")
        except (BadSetting, ContractError) as error:
            self.notes.left(self.place, f"{error.message}; write this condition by hand")
            return None
        return made

    # -- texts -------------------------------------------------------------------------------

    def _text(self, node: Node) -> str:
        match node:
            case Literal(words):
                return own_words(words)
            case Join(parts):
                return self._joined(parts)
            case Choose(condition, yes, no):
                made = f"{{{{if {bare(self.condition(condition))}}}}}{self._text(yes)}"
                otherwise = self._text(no)
                return f"{made}{'{{else}}' + otherwise if otherwise else ''}{{{{end}}}}"
            case Variable(name):
                return self._variable(self._meaning(name))
            case Method(Choose(condition, yes, no), name, arguments):
                each = (Method(yes, name, arguments), Method(no, name, arguments))
                return self._text(Choose(condition, *each))
            case Compare() | Logic():
                return f"{{{{if {bare(self.condition(node))}}}}}True{{{{else}}}}False{{{{end}}}}"
        return self._shown(self.operand(node))

    def _joined(self, parts: tuple[Node, ...]) -> str:
        made = ""
        for part in parts:
            self.known.work.spend()
            try:
                more = self._text(part)
            except TooMuch:
                raise
            except ContractError as error:
                self.notes.left(self.place, f"{error.message}; it is left out of the text")
                continue
            # A brace of its own right before a placeholder would be the placeholder's.
            if made.endswith("{") and more.startswith("{"):
                made = f'{made[:-1]}{{{{"{{"}}}}'
            made += more
            if len(made) > _LONGEST:
                raise TooMuch(f"a text would have over {_LONGEST} characters")
        return made

    def _variable(self, meaning: Meaning) -> str:
        if meaning.kind is Kind.INLINE and meaning.inline is not None:
            return self._inside()._text(meaning.inline)  # noqa: SLF001  itself, one deeper
        if meaning.kind is Kind.SWITCH:
            return f"{{{{if {bare(is_on(meaning))}}}}}True{{{{else}}}}False{{{{end}}}}"
        return self._shown(self._of_meaning(meaning))

    def _shown(self, operand: str) -> str:
        return f"{{{{{bare(operand)}{f' | {self.pipe}' if self.pipe else ''}}}}}"

    # -- operands ----------------------------------------------------------------------------

    def operand(self, node: Node) -> str:
        """As an argument or one side of a comparison. Raises: ContractError."""
        made = self._operand(node)
        if len(made) > _LONGEST_OPERAND:
            raise ContractError(f"an expression would have over {_LONGEST_OPERAND} characters")
        return made

    def _operand(self, node: Node) -> str:
        fixed = constant(node)
        if fixed is not None:
            return quoted(fixed)
        match node:
            case Variable() | Method():
                return self._of_meaning(self._value(node))
            case Join((only,)):
                return self.operand(only)
            case Compare() | Logic():
                return self.condition(node)
            case Choose():
                raise ContractError("IIf cannot stand inside another expression here")
            case Join():
                raise ContractError("texts cannot be joined inside an expression here")
        raise ContractError(f"there is no function {getattr(node, 'name', '')} here")

    def _of_meaning(self, meaning: Meaning) -> str:
        if meaning.kind is Kind.INLINE and meaning.inline is not None:
            return self._inside().operand(meaning.inline)
        if meaning.kind is Kind.MOMENT:
            self._changed(f"a moment without a format is written as {PLAIN_MOMENT}")
            return time_of(meaning, PLAIN_MOMENT)
        if meaning.kind is Kind.DURATION:
            return f"(hh_mm_ss {meaning.operand})"
        return meaning.operand

    def _value(self, node: Node) -> Meaning:
        """Raises: ContractError."""
        if isinstance(node, Variable):
            return self._meaning(node.name)
        if isinstance(node, Join) and len(node.parts) == 1:
            return self._value(node.parts[0])
        if not isinstance(node, Method):
            return Meaning(Kind.TEXT, self.operand(node))
        target = self._value(node.target)
        name = node.name.lower().removeprefix("get_")
        if target.kind is Kind.MOMENT:
            return self._of_moment(target, name, node)
        if target.kind is Kind.DURATION:
            return self._of_duration(target, name, node)
        return self._of_plain(target, name, node)

    def _of_moment(self, target: Meaning, name: str, node: Method) -> Meaning:
        if name in _OF_ZONES:
            return replace(target, utc=name == "touniversaltime")
        if name != "tostring":
            raise ContractError(f"a moment has no .{node.name} here")
        wanted = constant(node.arguments[0]) if node.arguments else PLAIN_MOMENT
        if wanted is None:
            raise ContractError("the format of a moment has to be a text without variables")
        made, changed = moment_format(wanted, utc=target.utc)
        if changed:
            self._changed(changed)
        return Meaning(Kind.TEXT, time_of(target, made))

    def _of_duration(self, target: Meaning, name: str, node: Method) -> Meaning:
        if name in _OF_DURATION:
            if name == "totalminutes":
                self._changed("minutes are whole ones, a begun minute counts")
            return Meaning(Kind.TEXT, f"({_OF_DURATION[name]} {target.operand})")
        if name == "tostring":
            wanted = constant(node.arguments[0]) if node.arguments else "c"
            return Meaning(Kind.TEXT, f"({duration_function(wanted or '')} {target.operand})")
        return self._of_plain(Meaning(Kind.TEXT, f"(hh_mm_ss {target.operand})"), name, node)

    def _of_plain(self, target: Meaning, name: str, node: Method) -> Meaning:
        operand = self._of_meaning(target)
        if name == "tostring":
            return replace(target, kind=Kind.TEXT, operand=operand)
        arguments = node.arguments or ()
        function, counts = _METHODS.get(name, ("", set[int]()))
        if len(arguments) not in counts:
            raise ContractError(f"there is no .{node.name} with {len(arguments)} arguments here")
        given = "".join(f" {self._argument(function, argument)}" for argument in arguments)
        return Meaning(Kind.TEXT, f"({function} {operand}{_PLACES.get(name, given)})")

    def _argument(self, function: str, node: Node) -> str:
        fixed = constant(node)
        if fixed is None or function not in {"substring", "item"}:
            return self.operand(node)
        if not _COUNT.fullmatch(fixed.strip()):
            raise ContractError(f"{function} takes whole numbers")
        return fixed.strip()

    # -- conditions --------------------------------------------------------------------------

    def condition(self, node: Node) -> str:
        """Raises: ContractError."""
        match node:
            case Logic("not", (inner,)):
                return f"(not {self.condition(inner)})"
            case Logic(operator, parts):
                return f"({operator} {' '.join(self.condition(part) for part in parts)})"
            case Compare(operator, left, right):
                return self._comparison(operator, left, right)
            case Choose(inner, yes, no):
                yes_is, no_is = (truth_of(part) for part in (yes, no))
                if yes_is is None or no_is is None or yes_is is no_is:
                    raise ContractError("IIf in a condition chooses between True and False only")
                return self.condition(inner if yes_is else negated_of(inner))
            case Method(target, name, (argument,)) if name.lower() in TESTS:
                return TESTS[name.lower()].format(self.operand(target), self.operand(argument))
            case Variable(name):
                meaning = self._meaning(name)
                if meaning.kind is Kind.SWITCH:
                    return is_on(meaning)
        truth = truth_of(node)
        if truth is not None:
            return "true" if truth else "false"
        return f'(eq (lower {self.operand(node)}) "true")'

    def _comparison(self, operator: str, left: Node, right: Node) -> str:
        if constant(left) is not None and constant(right) is None:
            left, right = right, left
            operator = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}.get(operator, operator)
        fixed = constant(right)
        meaning = self._meaning(left.name) if isinstance(left, Variable) else None
        if meaning is not None and fixed is not None:
            word = fixed.strip().lower()
            if meaning.kind is Kind.SWITCH and word in _BOOLEANS:
                return f'({_OPERATORS[operator]} {meaning.operand} "{_BOOLEANS[word]}")'
            if meaning.kind is Kind.TAKEN and word in _BOOLEANS:
                return f'({_OPERATORS[operator]} (lower {meaning.operand}) "{word}")'
            if meaning.kind is Kind.DURATION and fixed.strip().isdigit():
                return f"({_OPERATORS[operator]} (seconds {meaning.operand}) {fixed.strip()[:9]})"
        return f"({_OPERATORS[operator]} {self.operand(left)} {self.operand(right)})"

    # -- variables ---------------------------------------------------------------------------

    def _meaning(self, name: str) -> Meaning:
        meaning = self.known.find(name)
        if meaning is None:
            raise ContractError(f"[{name}] is no variable that is known here")
        if meaning.changed:
            self._changed(f"[{name}]: {meaning.changed.removeprefix(f'[{name}]: ')}")
        return meaning

    def _inside(self) -> Words:
        if self.depth >= _DEEPEST_INLINE:
            raise ContractError("settings that name settings are nested too deep")
        self.known.work.spend()
        return replace(self, depth=self.depth + 1, known=self.known.of_texts())

    def _changed(self, what: str) -> None:
        self.notes.changed(self.place, what)
