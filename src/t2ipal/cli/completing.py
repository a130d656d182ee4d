"""The verb that makes shells complete commands and options."""

from __future__ import annotations

import argparse
import importlib
from dataclasses import KW_ONLY
from typing import Literal

from t2ipal.cli.options import Verb
from t2ipal.cli.speech import say
from t2ipal.errors import options_of, settings


@settings
class Completion(Verb):
    """Print a script that makes a shell complete commands, options and their values."""

    positional = ("shell",)
    examples = """
        t2ipal completion bash > ~/.local/share/bash-completion/completions/t2ipal
        t2ipal completion zsh > ~/.zfunc/_t2ipal
        t2ipal completion fish > ~/.config/fish/completions/t2ipal.fish
    """
    _: KW_ONLY
    shell: Literal["bash", "zsh", "fish"]
    """the shell: bash, zsh or fish"""

    def run(self) -> int:
        import shtab

        from t2ipal.cli import _VERBS

        whole = argparse.ArgumentParser(prog="t2ipal")
        commands = whole.add_subparsers()
        for name, (module, verb, text) in _VERBS.items():
            made: type[Verb] = getattr(importlib.import_module(f"t2ipal.cli.{module}"), verb)
            options = {option.key: option for option in options_of(made)}
            parser = made.parser(options.values())
            for action in parser._actions:
                option = options[action.dest]
                if option.choices:
                    action.choices = option.choices
                elif option.placeholder == "DIR":
                    action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
                elif option.type is not bool:
                    action.complete = shtab.FILE  # type: ignore[attr-defined]
            commands.add_parser(name, parents=[parser], help=text, description=text)
        for line in shtab.complete(whole, self.shell).splitlines():
            say(line, data=True)
        return 0
