"""Options of the command line from groups of settings: parsed, and shown as help.

A verb is a group of settings, composed of those that it takes; it adds what else it asks for, and
``run``. An option that is not given is absent until the settings are made: it then comes from
``--config FILE`` if the verb has that, and else from its default.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import shutil
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, NoReturn, TypeVar

from t2ipal.errors import Option, UserError, nearest, options_of, read_settings, settings
from t2ipal.files import read_yaml
from t2ipal.runs.config import RunConfig

WIDTH = 100
# What an option takes the place of in a file; it is ignored there.
_REPLACES = {
    "captions": {"compose"},
    "compose": {"captions"},
    "data": {"data_folder"},
    "real_images": {"real_folder"},
    "preset": {"generator", "steps", "guidance", "height", "width"},
}


class Verb:
    """A verb, which is a group of settings too.

    Attributes:
        positional: fields that are given without their names, in this order.
        needed: fields that must be given though their group has a default.
        common: options that ``--help`` shows, in this order; all of them if empty.
        examples: commands that show its use.
    """

    positional: ClassVar[tuple[str, ...]] = ()
    needed: ClassVar[tuple[str, ...]] = ()
    common: ClassVar[tuple[str, ...]] = ()
    examples: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def file(cls, given: Mapping[str, Any]) -> Path | None:
        """A YAML file of a run's settings, which stand for those not given."""
        return None

    def run(self) -> int:
        """Do it, and return the exit status."""
        raise NotImplementedError


AnyVerb = TypeVar("AnyVerb", bound=Verb)


@settings
class ConfigFile(Verb):
    """Settings from a file."""

    config: Annotated[Path, "FILE"] | None = None
    """YAML file of settings, such as a run's config.yaml; options win over it"""

    @classmethod
    def file(cls, given: Mapping[str, Any]) -> Path | None:
        return Path(given["config"]) if "config" in given else None


def parse(name: str, verb: type[AnyVerb], arguments: list[str]) -> AnyVerb:
    """The verb with the values of its arguments.

    Raises:
        UserError: an unknown option, a value that is not allowed, or a missing one.
    """
    options = {option.key: option for option in options_of(verb)}
    given = _given(name, verb, options, arguments)
    values: dict[str, Any] = {}
    if (path := verb.file(given)) is not None:
        RunConfig.read(path)  # a mistake in the file is told with its line
        fields = {field.name for field in dataclasses.fields(verb)}  # type: ignore[arg-type]
        replaced = set().union(*(_REPLACES.get(key, set()) for key in given))
        file = read_yaml(path)
        values = {key: file[key] for key in file if key in fields and key not in replaced}
    for key, value in given.items():
        *groups, last = key.split(".")
        inner = values
        for group in groups:
            inner = inner.setdefault(group, {})
        inner[last] = value
    required = [key for key, option in options.items() if option.default is dataclasses.MISSING]
    for key in (*verb.needed, *required):
        if key not in values:
            what = re.split("[:;]", options[key].help)[0]
            raise UserError(f"{_named(verb, key)} is missing ({what}); see 't2ipal {name} --help'.")
    return read_settings(verb, values, lambda key: _named(verb, key))


def help_text(name: str, verb: type[Verb], everything: bool) -> str:
    """What ``t2ipal VERB --help`` prints, or ``--help-all``."""
    options = list(options_of(verb))
    shown = options
    if verb.common and not everything:
        by_key = {option.key: option for option in options}
        shown = [by_key[key] for key in verb.common]
    parser = _parser(name, verb, shown)
    left = len(options) - len(shown)
    more = f"\n't2ipal {name} --help-all' shows {left} more options.\n" if left else ""
    examples = "".join(f"  {line}\n" for line in verb.examples)
    return f"{parser.format_help()}{more}\nexamples:\n{examples}".rstrip()


def _given(
    name: str, verb: type[Verb], options: dict[str, Option], arguments: list[str]
) -> dict[str, Any]:
    """Key to value of what the command line gives, numbers as numbers where they are any."""
    dashed = [_dashed(word) if word.startswith("--") else word for word in arguments]
    found, odd = _parser(name, verb, list(options.values())).parse_known_args(dashed)
    if odd:
        word = odd[0].partition("=")[0]
        if word.startswith("-"):
            hint = nearest(word, [_named(verb, key) for key in options])
            raise UserError(f"there is no option {word!r}{hint}; see 't2ipal {name} --help'.")
        raise UserError(f"unexpected argument {word!r}; see 't2ipal {name} --help'.")
    return {
        key: [_value(options[key], one) for one in value]
        if options[key].several
        else _value(options[key], value)
        for key, value in vars(found).items()
    }


def _dashed(word: str) -> str:
    """``--per_class=3`` as ``--per-class=3``: keys of files may be given as they stand there."""
    option, equals, value = word.partition("=")
    return option.replace("_", "-") + equals + value


def _value(option: Option, text: Any) -> Any:
    """A number for what reads as one; the settings complain of what does not."""
    if option.type in (int, float):
        try:
            return option.type(text)
        except ValueError:
            return text
    return text


def _named(verb: type[Verb], key: str) -> str:
    if not key or key in verb.positional:
        return key.upper()
    return f"--{key.replace('_', '-')}"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message.removeprefix('argument ')}; see '{self.prog} --help'.")


def _parser(name: str, verb: type[Verb], options: list[Option]) -> _Parser:
    width = min(WIDTH, shutil.get_terminal_size().columns)

    def formatter(prog: str) -> argparse.HelpFormatter:
        return argparse.RawDescriptionHelpFormatter(prog, max_help_position=30, width=width)

    parser = _Parser(
        prog=f"t2ipal {name}",
        usage=_usage(name, verb),
        description=textwrap.fill(" ".join(str(verb.__doc__).split()), width),
        formatter_class=formatter,
        add_help=False,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    for key in verb.positional:
        for option in options:
            if option.key == key:
                several: dict[str, Any] = {"nargs": "*"} if option.several else {"nargs": "?"}
                parser.add_argument(key, metavar=key.upper(), help=_help(verb, option), **several)
    sections: dict[str, list[Option]] = {"options": []}
    for option in options:
        if option.key not in verb.positional:
            sections.setdefault(_title(verb, option), []).append(option)
    for title, members in sections.items():
        section = parser.add_argument_group(title)
        for option in members:
            _add(section, verb, option)
    return parser


def _title(verb: type[Verb], option: Option) -> str:
    """The heading of an option: what the docstring of its group says first."""
    if option.group is verb:
        return "options"
    text = " ".join(str(option.group.__doc__).split()).replace("``", "")
    sentence = text.partition(". ")[0].rstrip(".")
    within = option.key.rpartition(".")[0]
    return f"{within}: {sentence}" if within else sentence


def _add(section: Any, verb: type[Verb], option: Option) -> None:
    flag, text = _named(verb, option.key), _help(verb, option)
    if option.type is bool:
        kind = argparse.BooleanOptionalAction
        section.add_argument(flag, dest=option.key, action=kind, help=text)
        return
    metavar = f"{{{','.join(option.choices)}}}" if option.choices else option.placeholder
    several = {"nargs": "+"} if option.several else {}
    section.add_argument(flag, dest=option.key, metavar=metavar, help=text, **several)


def _help(verb: type[Verb], option: Option) -> str:
    text = option.help.replace("``", "").replace("%", "%%")
    if option.default is dataclasses.MISSING or option.key in verb.needed:
        return f"{text} (required)"
    if option.default in (None, "", False, ()):
        return text
    default = option.default
    if option.several:
        default = " ".join(map(str, default))
    elif isinstance(default, bool):
        default = "on"
    elif isinstance(default, float):
        default = f"{default:g}"
    return f"{text} (default: {default})"


def _usage(name: str, verb: type[Verb]) -> str:
    words = [f"t2ipal {name}"]
    for option in options_of(verb):
        if option.key in verb.positional:
            words.append(f"{option.key.upper()}{' ...' if option.several else ''}")
    for option in options_of(verb):
        required = option.default is dataclasses.MISSING or option.key in verb.needed
        if required and option.key not in verb.positional:
            words.append(f"{_named(verb, option.key)} {option.placeholder}")
    return " ".join([*words, "[OPTIONS]"])
