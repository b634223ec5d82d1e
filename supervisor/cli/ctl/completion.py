"""`pitbossctl completion`: teaches a shell to complete verbs, options, pools and instances."""

import click

from supervisor.cli.ctl.settings import settings, verb

VARIABLE = "_PITBOSSCTL_COMPLETE"
"""The environment variable through which the shell asks; click derives it from the program's name."""


@verb(
    examples=(
        'bash: eval "$(pitbossctl completion bash)"    in ~/.bashrc',
        'zsh:  eval "$(pitbossctl completion zsh)"     in ~/.zshrc, after compinit',
        "fish: pitbossctl completion fish > ~/.config/fish/completions/pitbossctl.fish",
    ),
    exit_codes=("the script was printed",),
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    Names of pools, instances and operations come from the running daemon; if it is silent for a second,
    or not there, nothing is completed and nothing is printed.
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"there is no completion for {shell}")
    script = found(ctx.find_root().command, {}, "pitbossctl", VARIABLE)
    # `source()` would start a bash to ask for its version, and warn about one that is not the user's.
    settings().screen().raw(script.source_template % script.source_vars())
