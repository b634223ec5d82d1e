"""`pitbossctl version`: of the client and of the daemon it talks to."""

from supervisor import __version__
from supervisor.cli.ctl.settings import print_json, settings, verb
from supervisor.cli.ctl.text import Line, Span, clean
from supervisor.cli.ctl.view import host_view
from supervisor.client.errors import ClientError


@verb(
    examples=("pitbossctl version", "pitbossctl version --json"),
    exit_codes=("always, also where no daemon is reachable",),
)
def version() -> None:
    """Show the versions of pitbossctl and of pitbossd."""
    options = settings()
    daemon: dict[str, str] | None = None
    reason = ""
    try:
        with options.client(options.timeout_seconds) as client:
            host = host_view(client.status())
            daemon = {"version": host.version, "name": host.name, "address": str(client.address)}
    except ClientError as error:
        reason = clean(str(error).splitlines()[0])
    if options.json:
        print_json({"pitbossctl": __version__, "pitbossd": daemon}, options)
        return
    lines: list[Line] = [(Span(f"pitbossctl {__version__}"),)]
    if daemon is not None:
        lines.append(
            (Span(f"pitbossd   {daemon['version']}  {daemon['name']} at {clean(daemon['address'])}"),)
        )
    else:
        lines.append((Span(f"pitbossd   {reason}", "dim"),))
    options.screen().say(lines)
