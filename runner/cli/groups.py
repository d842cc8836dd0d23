"""Groups of commands that answer an unknown name with the nearest one, and know the usual short names."""

from __future__ import annotations

from typing import Final

import click

_SHORT: Final = {"ls": "list", "rm": "delete"}


class SuggestingGroup(click.Group):
    """A group that says which command somebody probably meant."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that `args` begin with; an unknown one is answered with the nearest."""
        known = self.list_commands(ctx)
        if args and args[0] not in known and _SHORT.get(args[0]) in known:
            args = [_SHORT[args[0]], *args[1:]]
        if args and args[0] not in known and not args[0].startswith("-"):
            from runner.flows.spelling import did_you_mean

            hint = did_you_mean(args[0], known) or f"there are {', '.join(known)}"
            ctx.fail(f"there is no command {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)
