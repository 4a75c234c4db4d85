"""What a command takes, declared once for the parser and for the help page; `splitting` takes options apart.

Rule: a value that was not understood is never repeated in an error: it may be a key that somebody typed in the wrong
place. So argparse's own messages, which repeat it, do not leave `splitting`.
"""

from collections.abc import Sequence
from typing import Final

from authsome.cli.main import GLOBAL_FLAGS
from authsome.errors import UsageError


class Positional:
    """A word that is known by its place. A plain class, because `dataclasses` would cost each start 12 ms."""

    def __init__(self, name: str, help: str, *, required: bool, many: bool) -> None:  # noqa: A002
        self.name = name
        self.help = help
        self.required = required
        self.many = many


class Option:
    """A word that begins with a dash; with a `metavar` it takes a value."""

    def __init__(  # noqa: PLR0913  # each by name
        self,
        names: tuple[str, ...],
        help: str,  # noqa: A002
        *,
        metavar: str | None = None,
        choices: tuple[str, ...] = (),
        many: bool = False,
        hidden: bool = False,
    ) -> None:
        self.names = names
        self.help = help
        self.metavar = metavar
        self.choices = choices
        self.many = many
        self.hidden = hidden

    @property
    def key(self) -> str:
        """The name that the value is asked for by."""
        return self.names[-1].lstrip("-")


class Arguments:
    """What was on the command line."""

    def __init__(self, values: dict[str, tuple[str, ...]]) -> None:
        self._values = values

    def text(self, name: str) -> str:
        """The value of an argument that must be there."""
        return self._values[name][0]

    def optional(self, name: str) -> str | None:
        """The value, or None."""
        found = self._values.get(name)
        return found[-1] if found else None

    def many(self, name: str) -> tuple[str, ...]:
        """Every value, in order."""
        return self._values.get(name, ())

    def flag(self, name: str) -> bool:
        """Whether the flag was given."""
        return name in self._values


class Parser:
    """The arguments that one command takes; every command also takes the global flags."""

    def __init__(self, command: str, summary: str) -> None:
        self.command = command
        self.summary = summary
        self.examples: tuple[str, ...] = ()
        self.notes: tuple[str, ...] = ()
        """Lines that stand below everything else."""
        self.positionals: list[Positional] = []
        self.options: list[Option] = []
        self.remainder: Positional | None = None
        self.instead: str | None = None
        """The option that does without the rest."""
        self.too_many: str | None = None
        """The hint for somebody who gave more words than are taken."""

    def argument(self, name: str, help: str, *, required: bool = True, many: bool = False) -> None:  # noqa: A002
        """Take a word by its place; the last one may take all that are left."""
        self.positionals.append(Positional(name, help, required=required, many=many))

    def option(
        self,
        *names: str,
        metavar: str,
        help: str,  # noqa: A002  # the word everybody knows
        choices: tuple[str, ...] = (),
        many: bool = False,
    ) -> None:
        """Take an option with a value; asked for by its last name without dashes."""
        self.options.append(Option(names, help, metavar=metavar, choices=choices, many=many))

    def flag(self, *names: str, help: str, hidden: bool = False) -> None:  # noqa: A002
        """Take an option without a value."""
        self.options.append(Option(names, help, hidden=hidden))

    def rest(self, name: str, help: str, *, unless: str | None = None) -> None:  # noqa: A002
        """Take everything from the first word that is no option, or from `--` on, as it is.

        With the option `unless` there need not be any.
        """
        self.remainder = Positional(name, help, required=True, many=True)
        self.instead = unless

    def parse(self, words: Sequence[str]) -> tuple[Arguments, set[str]]:
        """The arguments, and the global flags among them.

        Raises:
            UsageError: the words are not such a command line.
        """
        found = Found()
        unknown = self._sort(list(words), found)
        if "help" in found.flags:
            return Arguments({}), found.flags
        self._check(found, unknown)
        given = {key: tuple(value for _, value in pairs) for key, pairs in found.options.items()}
        return Arguments({**given, **found.placed}), found.flags

    def _sort(self, words: list[str], found: "Found") -> list[str]:
        """Sort the words into `found`; returns those that there is no use for."""
        if self.remainder is not None or any(_is_option(word) and word not in GLOBAL_FLAGS for word in words):
            return self._take_apart(words, found)
        found.flags.update(GLOBAL_FLAGS[word] for word in words if word in GLOBAL_FLAGS)
        unknown: list[str] = []
        self._place([word for word in words if word not in GLOBAL_FLAGS], unknown, found)
        return unknown

    def _take_apart(self, words: list[str], found: "Found") -> list[str]:
        from authsome.cli import splitting  # noqa: PLC0415  # 10 ms that a command without options does without

        try:
            plain, unknown = splitting.split(self, words, found)
        except splitting.Misfit as misfit:
            raise self._wrong(self._complaint(misfit.names)) from None
        if self.remainder is not None:
            found.placed[self.remainder.name] = tuple(plain)
        else:
            self._place(plain, unknown, found)
        return unknown

    def _place(self, words: list[str], unknown: list[str], found: "Found") -> None:
        for positional in self.positionals:
            taken, words = (words, []) if positional.many else (words[:1], words[1:])
            found.placed[positional.name] = tuple(taken)
        unknown.extend(words)

    def _check(self, found: "Found", unknown: Sequence[str]) -> None:
        for word in unknown:
            if _is_option(word):
                name = word.partition("=")[0] if word.startswith("--") else word[:2]
                known = [each.names[-1] for each in self.options if not each.hidden] + list(GLOBAL_FLAGS)
                raise self._wrong(f"{self.command} has no option {_shown(name)}", suggestion(name, known))
        for option in self.options:
            self._check_option(option, found.options.get(option.key, []))
        self._check_words(found)
        if unknown:
            takes = _count(len(self.positionals))
            raise self._wrong(f"{self.command} takes {takes}, and was given more", self.too_many)

    def _check_words(self, found: "Found") -> None:
        for positional in self.positionals:
            if not all(found.placed[positional.name]):
                raise self._wrong(f"the {positional.name} is empty", _UNSET if positional.required else _UNSET + _USUAL)
        for positional in (*self.positionals, *([self.remainder] if self.remainder else [])):
            if positional.required and not found.placed[positional.name]:
                if positional is self.remainder and self.instead in found.options:
                    continue
                if positional is self.remainder:
                    raise self._wrong(f"no {positional.name} to {self.command} was given")
                raise self._wrong(f"{self.command} needs {_article(positional.name)} {positional.name}")

    def _check_option(self, option: Option, given: Sequence[tuple[str, str]]) -> None:
        if len(given) > 1 and option.metavar is not None and not option.many:
            raise self._wrong(f"{given[0][0]} is given twice")
        for name, value in given:
            if option.metavar is not None and not value:
                raise self._wrong(f"what follows {name} is empty", _UNSET + _USUAL)
            if option.choices and value not in option.choices:
                hint = suggestion(value, option.choices) or f"one of {', '.join(option.choices)}"
                raise self._wrong(f"{name} does not know that value", hint)

    def _complaint(self, names: Sequence[str]) -> str:
        """What is wrong with an option of these names: a value is missing, or there is one too many."""
        for option in self.options:
            if option.metavar is not None and set(names) & set(option.names):
                return f"{option.names[-1]} takes a value: {option.names[-1]} {option.metavar}"
        return f"{names[-1]} takes no value"

    def _wrong(self, message: str, hint: str | None = None) -> UsageError:
        return UsageError(message, hint=hint or f"see `authsome {self.command} --help`")


class Found:
    """What the words were sorted into."""

    def __init__(self) -> None:
        self.flags: set[str] = set()
        self.options: dict[str, list[tuple[str, str]]] = {}
        self.placed: dict[str, tuple[str, ...]] = {}


_UNSET: Final = "a variable of the shell may be unset"
_USUAL: Final = "; to have it the usual way, leave it away"
_ARTICLES: Final = {False: "a", True: "an"}


def suggestion(word: str, known: Sequence[str]) -> str | None:
    """The question `did you mean …?` when a known word is near."""
    import difflib  # noqa: PLC0415  # only for those who mistyped

    begun = [each for each in known if len(word.lstrip("-")) > 1 and each.startswith(word)]
    near = begun or difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]}?" if near else None


def _is_option(word: str) -> bool:
    return word.startswith("-") and word != "-"


def _shown(name: str) -> str:
    """An option's name as it may be repeated: only what looks like a name."""
    return name if len(name) <= 32 and name.replace("-", "").isalnum() and name.isascii() else "like that"


def _count(number: int) -> str:
    return {0: "no argument", 1: "one argument"}.get(number, f"{number} arguments")


def _article(name: str) -> str:
    return _ARTICLES[name[:1].lower() in "aeiou"]
