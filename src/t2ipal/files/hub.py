"""Files of the Hugging Face hub: fetched whole, or one sentence that says why not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from t2ipal.errors import UserError

_LOG_IN = "hf auth login"
_CLIENTS = ("httpx", "httpx2", "requests")  # of huggingface_hub's versions


def fetch(
    spec: str, repo: str, file: str, revision: str | None = None, command: str | None = None
) -> Path | None:
    """A file of a repository, in the hub's cache; None if the repository has no such file.

    Args:
        spec: what the user named; an error begins with it.
        command: what fetches all that is needed; the whole repository if omitted.

    Raises:
        UserError: as :func:`hub_failures` says.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import RemoteEntryNotFoundError

    with hub_failures(spec, repo, revision, command):
        try:
            return Path(hf_hub_download(repo, file, revision=revision or None))
        except RemoteEntryNotFoundError:
            return None


@contextmanager
def hub_failures(
    spec: str, repo: str, revision: str | None = None, command: str | None = None
) -> Iterator[None]:
    """Turn what the hub's client and the libraries above it raise into one sentence.

    Args:
        spec, command: as in :func:`fetch`.

    Raises:
        UserError: no such repository or revision, a licence to accept first, no network, too many
            requests, a hub that is out of order; it begins with ``spec`` and names the remedy.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        called = "the repository" + f" {repo}" * (repo not in spec)
        command = command or download_command(repo, revision)
        reasons = (_reason(one, repo, revision, called, command) for one in _chain(error))
        reason = next(filter(None, reasons), None)
        if reason is None:
            raise
        raise UserError(f"{spec}: {reason}.") from error


def download_command(repo: str, revision: str | None = None) -> str:
    """What fetches a repository on a machine with a network.

    Not a line of open_clip or diffusers, which would run what a configuration names.
    """
    return f"hf download {repo}" + (f" --revision {revision}" if revision else "")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, then what it was raised because of."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _reason(
    error: BaseException, repo: str, revision: str | None, called: str, command: str
) -> str | None:
    """Why the hub did not give what was asked of it; None if that is not what went wrong."""
    from huggingface_hub import constants, errors

    page = f"{constants.ENDPOINT}/{repo}"
    status = getattr(getattr(error, "response", None), "status_code", 0)
    again = "run the same command again"
    if isinstance(error, errors.HFValidationError):
        return f"{repo!r} is not on the hub, because it is no name; write ORG/NAME"
    if isinstance(error, errors.GatedRepoError):
        wanted = f"{called} asks for its licence{_licence(repo)} to be accepted on {page}"
        if status == 403:
            return f"{wanted}, which your token's account has not done; accept it, then {again}"
        return f"{wanted}; accept it, then run: {_LOG_IN}"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"{called} is not on the hub, or is private; check the name, or run: {_LOG_IN}"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{called} has no revision {revision!r} on the hub; check {page}/commits"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return (
            "its files are not on this machine, and HF_HUB_OFFLINE forbids fetching them; on a "
            f"machine with a network run: {command}"
        )
    if status == 429:
        return f"the hub refuses so many requests (429); wait some minutes or log in, then {again}"
    if status >= 500:
        return f"the hub is out of order (it answers {status}); {again} later"
    if status in (401, 403):
        return f"the hub refuses the token ({status}); run: {_LOG_IN}"
    names = {kind.__name__ for kind in type(error).__mro__}
    if type(error).__module__.partition(".")[0] in _CLIENTS:
        if names & {"ConnectError", "ConnectTimeout", "ConnectionError"}:
            return (
                "its files are not on this machine, and the hub cannot be reached "
                f"({first_line(error)}); on a machine with a network run: {command}"
            )
        return f"the connection to the hub broke ({first_line(error)}); {again}"
    if "Consistency check failed" in str(error):
        return f"a file arrived damaged ({first_line(error)}); {again}"
    return None


def _licence(repo: str) -> str:
    """`` (its name)``, as far as the hub tells it without access."""
    from huggingface_hub import model_info

    try:
        card = model_info(repo).card_data
    except Exception:  # only a name in a sentence about another failure
        return ""
    name = card and (card.get("license_name") or card.get("license"))
    return f" ({name})" if name else ""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its kind."""
    lines = str(error).strip().splitlines()
    return lines[0][:200].rstrip(".") if lines else type(error).__name__
