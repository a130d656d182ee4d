"""Verbs about a whole run: make one, compare its methods, tell what it needs; and completion."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Mapping
from dataclasses import KW_ONLY, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from t2ipal.cli.options import ConfigFile, Verb, require_paths
from t2ipal.cli.speech import say
from t2ipal.errors import UserError, options_of, settings, settings_of
from t2ipal.runs.config import CompareSettings, RunConfig

# What people choose in a run. The rest is fine tuning, which --help-all shows.
_COMMON = """
    out config classes captions compose per_class preset generator images_per_caption steps inspect
    exact batch_size clip image_size crops train.train_on train.epochs data data_folder also
    real_images shots label_fraction real_data seeds ablations seed device precision
"""


@settings
class Run(RunConfig, ConfigFile):
    """Label, generate, embed, train and compare in one folder; started again, it resumes."""

    needed = ("classes",)
    common = _COMMON
    examples = """
        t2ipal run --classes voc2007 --compose 200 --out runs/first
        t2ipal run --classes classes.yaml --captions captions.txt --preset fast \\
            --clip ViT-B-16:openai --data photos/ --out runs/mine
        t2ipal run --config runs/mine/config.yaml --seed 1 --out runs/again
    """
    _: KW_ONLY
    out: Annotated[Path, "DIR"]
    """folder of the run"""
    overwrite: bool = False
    """replace images in the folder that were generated with other settings"""

    def run(self) -> int:
        self.require()
        data = self.data, *self.also, self.real_images, self.real_data
        require_paths(self.captions, self.data_folder, self.real_folder, data=data)
        from t2ipal.runs.pipeline import run

        run(settings_of(RunConfig, self), self.out, overwrite=self.overwrite, say=say)
        return 0


@settings
class Compare(CompareSettings, Verb):
    """Fit and evaluate every method and ablation on the features of a run."""

    positional = ("run_folder",)
    examples = """
        t2ipal compare runs/mine --data photos/
        t2ipal compare runs/mine --data coco2014:COCO --seeds 0 1 2 3 4
    """
    _: KW_ONLY
    run_folder: Annotated[Path, "RUN"]
    """folder of a run"""

    @classmethod
    def file(cls, given: Mapping[str, Any]) -> Path | None:
        if "run_folder" not in given:
            return None
        path = Path(given["run_folder"]) / "config.yaml"
        if not path.exists():
            raise UserError(f"{path.parent}: holds no run; make one with 't2ipal run'.")
        return path

    def run(self) -> int:
        if self.data is None:
            raise UserError("no test images: give --data FOLDER, a COCO-format JSON, or miniature.")
        require_paths(data=[self.data, *self.also, self.real_data])
        from t2ipal.runs.pipeline import run

        config = RunConfig.read(self.run_folder / "config.yaml")
        chosen = {field.name: getattr(self, field.name) for field in fields(CompareSettings)}
        run(replace(config, **chosen), self.run_folder, say=say)
        return 0


@settings
class Doctor(RunConfig, ConfigFile):
    """Tell what is here, what a run still needs, and how long and large it would be."""

    common = f"measure {_COMMON}"
    examples = """
        t2ipal doctor
        t2ipal doctor --classes voc2007 --compose 20000 --preset fast --measure
        t2ipal doctor --data voc2007:VOCdevkit
    """
    _: KW_ONLY
    out: Annotated[Path, "DIR"] = Path("runs")
    """folder of the run"""
    measure: bool = False
    """generate and embed a few images to tell how long a run would take"""

    def run(self) -> int:
        from t2ipal.runs.doctor import examine

        missing = False
        for finding in examine(settings_of(RunConfig, self), self.out, measure=self.measure):
            say(str(finding))
            missing |= finding.missing
        return 1 if missing else 0


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
