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
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, NoReturn, Self

from t2ipal.errors import Option, UserError, nearest, options_of, read_settings, settings
from t2ipal.files.yaml_files import read_yaml

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
    common: ClassVar[str] = ""
    examples: ClassVar[str] = ""

    def run(self) -> int:
        """Do it, and return the exit status."""
        raise NotImplementedError

    @classmethod
    def file(cls, given: Mapping[str, Any]) -> Path | None:
        """A YAML file of a run's settings, which stand for those not given."""
        return None

    @classmethod
    def parse(cls, arguments: list[str]) -> Self:
        """The verb with the values of its arguments.

        Raises:
            UserError: an unknown option, a value that is not allowed, or a missing one.
        """
        options = {option.key: option for option in options_of(cls)}
        given = _given(cls, options, arguments)
        values: dict[str, Any] = {}
        if (path := cls.file(given)) is not None:
            from t2ipal.runs.config import RunConfig

            RunConfig.read(path)  # a mistake in the file is told with its line
            replaced = set().union(*(_REPLACES.get(key, set()) for key in given))
            fields = {key.partition(".")[0] for key in options} - replaced
            values = {key: value for key, value in read_yaml(path).items() if key in fields}
        for key, value in given.items():
            *groups, last = key.split(".")
            inner = values
            for group in groups:
                inner = inner.setdefault(group, {})
            inner[last] = value
        for key, option in options.items():
            if _required(cls, option) and key not in values:
                what = re.split("[:;]", option.help)[0]
                raise UserError(
                    f"{_named(cls, key)} is missing ({what}); see '{_prog(cls)} --help'."
                )
        return read_settings(cls, values, lambda key: _named(cls, key))

    @classmethod
    def parser(cls, options: Iterable[Option]) -> argparse.ArgumentParser:
        """The parser of the verb with these of its options."""
        width = min(100, shutil.get_terminal_size().columns)
        words = [_prog(cls)]
        for option in sorted(options_of(cls), key=lambda option: option.key not in cls.positional):
            if option.key in cls.positional:
                words.append(option.key.upper() + " ..." * option.several)
            elif _required(cls, option):
                words.append(f"{_named(cls, option.key)} {option.placeholder}")
        parser = _Parser(
            prog=_prog(cls),
            usage=" ".join([*words, "[OPTIONS]"]),
            description=textwrap.fill(" ".join(str(cls.__doc__).split()), width),
            formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(
                prog, max_help_position=30, width=width
            ),
            add_help=False,
            allow_abbrev=False,
            argument_default=argparse.SUPPRESS,
        )
        sections = {"options": parser.add_argument_group("options")}
        for option in options:
            how: dict[str, Any] = {"help": _help(cls, option)}
            if option.key in cls.positional:
                nargs = "*" if option.several else "?"
                parser.add_argument(option.key, metavar=option.key.upper(), nargs=nargs, **how)
                continue
            if option.type is bool:
                how["action"] = argparse.BooleanOptionalAction
            else:
                choices = ",".join(option.choices)
                how["metavar"] = f"{{{choices}}}" if choices else option.placeholder
                how["nargs"] = "+" if option.several else None
            title = _title(cls, option)
            if title not in sections:
                sections[title] = parser.add_argument_group(title)
            sections[title].add_argument(_named(cls, option.key), dest=option.key, **how)
        return parser

    @classmethod
    def help(cls, everything: bool) -> str:
        """What ``--help`` prints, or ``--help-all``."""
        options = {option.key: option for option in options_of(cls)}
        shown = list(options) if everything or not cls.common else cls.common.split()
        text = cls.parser([options[key] for key in shown]).format_help()
        if left := len(options) - len(shown):
            text += f"\n'{_prog(cls)} --help-all' shows {left} more options.\n"
        return f"{text}\nexamples:\n{textwrap.indent(textwrap.dedent(cls.examples).strip(), '  ')}"


def require_paths(*paths: str | Path | None, data: Iterable[str | None] = ()) -> None:
    """Answer mistyped paths before PyTorch is imported, which takes seconds.

    Args:
        data: labelled images, such as ``voc2007:DIR?split=test``.

    Raises:
        UserError: one of them is not there.
    """
    for path in paths:
        if path is not None and not Path(path).exists():
            raise UserError(f"{path}: no such folder or file; check the path.")
    for spec in data:
        if spec is not None and spec.partition(":")[0] != "miniature":
            from t2ipal.datasets.official import parse_layout

            layout = parse_layout(spec)
            require_paths(spec.partition("?")[0] if layout is None else layout[1])


@settings
class ConfigFile(Verb):
    """Settings from a file."""

    config: Annotated[Path, "FILE"] | None = None
    """YAML file of settings, such as a run's config.yaml; options win over it"""

    @classmethod
    def file(cls, given: Mapping[str, Any]) -> Path | None:
        return Path(given["config"]) if "config" in given else None


def _given(verb: type[Verb], options: dict[str, Option], arguments: list[str]) -> dict[str, Any]:
    """Key to value of what the command line gives, numbers as numbers where they are any."""
    # --per_class is --per-class, so that keys of files may be given as they stand there
    dashed = [re.sub("^--[^=]*", lambda m: m[0].replace("_", "-"), word) for word in arguments]
    found, odd = verb.parser(options.values()).parse_known_args(dashed)
    if odd:
        word = odd[0].partition("=")[0]
        what = "there is no option" if word.startswith("-") else "unexpected argument"
        hint = nearest(word, [_named(verb, key) for key in options])
        raise UserError(f"{what} {word!r}{hint}; see '{_prog(verb)} --help'.")
    for key, value in vars(found).items():
        if "" in ([*value] if options[key].several else [value]):
            what = re.split("[:;]", options[key].help)[0]
            raise UserError(f"{_named(verb, key)} is empty ({what}); see '{_prog(verb)} --help'.")
    return {
        key: [_number(options[key], one) for one in value]
        if options[key].several
        else _number(options[key], value)
        for key, value in vars(found).items()
    }


def _number(option: Option, text: Any) -> Any:
    """A number if one is wanted and ``text`` reads as one; the settings complain if it does not."""
    try:
        return option.type(text) if option.type in (int, float) else text
    except ValueError:
        return text


def _prog(verb: type[Verb]) -> str:
    return f"t2ipal {re.sub('(?<=[a-z])(?=[A-Z])', '-', verb.__name__).lower()}"


def _named(verb: type[Verb], key: str) -> str:
    return key.upper() if not key or key in verb.positional else f"--{key.replace('_', '-')}"


def _required(verb: type[Verb], option: Option) -> bool:
    return option.default is dataclasses.MISSING or option.key in verb.needed


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message.removeprefix('argument ')}; see '{self.prog} --help'.")


def _title(verb: type[Verb], option: Option) -> str:
    """The heading of an option: what the docstring of its group says first."""
    if option.group is verb:
        return "options"
    text = " ".join(str(option.group.__doc__).split()).replace("``", "")
    within = option.key.rpartition(".")[0]
    return f"{within}: " * bool(within) + text.partition(". ")[0].rstrip(".")


def _help(verb: type[Verb], option: Option) -> str:
    text, default = option.help.replace("``", "").replace("%", "%%"), option.default
    if _required(verb, option):
        return f"{text} (required)"
    if default in (None, "", False, ()):
        return text
    if option.several:
        default = " ".join(map(str, default))
    elif isinstance(default, float):
        default = f"{default:g}"
    return f"{text} (default: {'on' if default is True else default})"
