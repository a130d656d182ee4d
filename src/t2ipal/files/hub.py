"""Files of the Hugging Face hub and other servers: fetched whole, or one sentence why not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from t2ipal.errors import UserError

_LOG_IN = "hf auth login"
_AGAIN = "run the same command again"
_CLIENTS = ("httpx", "httpx2", "requests")  # of huggingface_hub's versions


class NotFetched(UserError):
    """A file is not given by the hub or another server, out of reach, or too large for the disk."""


def fetch(
    spec: str, repo: str, file: str, revision: str | None = None, command: str | None = None
) -> Path | None:
    """A file of a repository, in the hub's cache; None if the repository has no such file.

    Args:
        spec: what the user named; an error begins with it.
        command: what fetches all that is needed; the whole repository if omitted.

    Raises:
        NotFetched: as :func:`hub_failures` says.
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
        NotFetched: no such repository or revision, a licence to accept first, no network, too many
            requests, a hub that is out of order; it begins with ``spec`` and names the remedy.
    """
    called = "the repository" + f" {repo}" * (repo not in spec)
    missing = (
        "; its files are not on this machine: where there is a network, run: "
        f"{command or download_command(repo, revision)}"
    )
    with _told(
        spec,
        lambda error: (
            _refusal(error, repo, revision, called, missing) or _failure(error, "the hub", missing)
        ),
    ):
        yield


@contextmanager
def server_failures(spec: str, server: str) -> Iterator[None]:
    """The same for any other server.

    Raises:
        NotFetched: as :func:`hub_failures`.
    """
    with _told(spec, lambda error: _failure(error, server, f"; {_AGAIN} later")):
        yield


def download_command(repo: str, revision: str | None = None) -> str:
    """What fetches a repository on a machine with a network.

    Not a line of open_clip or diffusers, which would run what a configuration names.
    """
    return f"hf download {repo}" + (f" --revision {revision}" if revision else "")


@contextmanager
def _told(spec: str, reason_of: Callable[[BaseException], str | None]) -> Iterator[None]:
    """Raise for the first error of a chain that has a reason; the outermost first."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        one: BaseException | None = error
        while one is not None:
            if reason := reason_of(one):
                raise NotFetched(f"{spec}: {reason}.") from error
            one = one.__cause__ or one.__context__
        raise


def _refusal(
    error: BaseException, repo: str, revision: str | None, called: str, missing: str
) -> str | None:
    """Why the hub does not give what was asked of it; None if it is another error."""
    from huggingface_hub import constants, errors

    page = f"{constants.ENDPOINT}/{repo}"
    if isinstance(error, errors.HFValidationError):
        return f"{repo!r} is not on the hub, because it is no name; write ORG/NAME"
    if isinstance(error, errors.GatedRepoError):
        wanted = f"{called} asks for its licence{_licence(repo)} to be accepted on {page}"
        if _status(error) == 403:
            return f"{wanted}, which your token's account has not done; accept it, then {_AGAIN}"
        return f"{wanted}; accept it, then run: {_LOG_IN}"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"{called} is not on the hub, or is private; check the name, or run: {_LOG_IN}"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{called} has no revision {revision!r} on the hub; check {page}/commits"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return f"HF_HUB_OFFLINE forbids asking the hub{missing}"
    if _status(error) in (401, 403):
        return f"the hub refuses the token ({_status(error)}); run: {_LOG_IN}"
    return None


def _failure(error: BaseException, server: str, missing: str) -> str | None:
    """What is wrong with a server or the way to it; None if it is another error."""
    status = _status(error)
    if status == 429:
        return f"{server} refuses so many requests (429); wait some minutes, then {_AGAIN}"
    if status >= 500:
        return f"{server} is out of order (it answers {status}); {_AGAIN} later"
    if status >= 400:
        return f"{server} refuses (it answers {status}); check the address"
    names = {kind.__name__ for kind in type(error).__mro__}
    if type(error).__module__.partition(".")[0] in _CLIENTS:
        if names & {"ConnectError", "ConnectTimeout", "ConnectionError"}:
            return f"{server} cannot be reached ({first_line(error)}){missing}"
        return f"the connection to {server} broke ({first_line(error)}); {_AGAIN}"
    if "Consistency check failed" in str(error):
        return f"a file of {server} arrived incomplete ({first_line(error)}); {_AGAIN}"
    return None


def _status(error: BaseException) -> int:
    """The HTTP status of an error, or 0."""
    return getattr(getattr(error, "response", None), "status_code", 0)


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
