"""``guardrail serve``: run the proxy."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from guardrail.cli import EXIT_BAD_FILE
from guardrail.cli.admin_options import admin_address, admin_options, admin_settings
from guardrail.cli.audit_options import audit_options, audit_settings
from guardrail.cli.data import calibration_option
from guardrail.cli.limits import limit_options, limits_from

__all__ = ["serve_command"]


@click.command("serve", context_settings={"auto_envvar_prefix": "GUARDRAIL"})
@click.option(
    "-u", "--upstream", required=True, help="Base URL of the LLM API; or 'litellm' with --models."
)
@click.option(
    "--models",
    type=click.Path(path_type=Path),
    help="Aliases, providers and keys behind '--upstream litellm', as YAML.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, type=int, help="Port; 0 picks one.")
@click.option(
    "-p", "--policy", default="default", show_default=True, help="A policy file or bundled name."
)
@click.option("--bundle", type=click.Path(), help="A model folder, in place of the embedded one.")
@calibration_option
@click.option(
    "--refusal",
    type=click.Choice(["400", "403", "200"]),
    default="400",
    show_default=True,
    help="Answer to a request that is blocked: an error status, or 200 with a refusal message.",
)
@click.option(
    "--announce",
    type=click.Choice(["comment", "event", "none"]),
    default="comment",
    show_default=True,
    help="How a stream tells of a flag or block: an SSE comment, an extra event, or not at all.",
)
@click.option(
    "--passthrough/--no-passthrough",
    default=True,
    show_default=True,
    help="Whether paths that are not guarded reach the upstream.",
)
@click.option(
    "--upstream-key",
    show_envvar=True,
    help="Key sent upstream in place of the client's; better set as a variable than as a flag.",
)
@click.option("--max-request-bytes", default=10 * 1024 * 1024, show_default=True, type=int)
@click.option("--max-response-bytes", default=32 * 1024 * 1024, show_default=True, type=int)
@click.option("--connect-timeout-s", default=10.0, show_default=True, type=float)
@click.option("--read-timeout-s", default=300.0, show_default=True, type=float)
@click.option(
    "--reload-s",
    default=2.0,
    show_default=True,
    type=float,
    help="Seconds between looks at the policy's files; 0 reloads only on SIGHUP.",
)
@click.option(
    "--threads", type=click.IntRange(1, 256), help="Threads of one forward pass [default: cores]."
)
@click.option(
    "--workers",
    default=1,
    show_default=True,
    type=click.IntRange(1, 256),
    help="Processes that share the port, each with a model of its own.",
)
@click.option(
    "--allow-upstream",
    multiple=True,
    help="Host (or host:port) that --upstream may name; may be repeated [default: any].",
)
@click.option(
    "--keys",
    type=click.Path(path_type=Path),
    help="File with keys that clients need (see 'guardrail keys').",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Lines for people, or one JSON object a line; 'guardrail -v serve' logs each request.",
)
@limit_options
@audit_options
@admin_options
def serve_command(
    upstream: str,
    models: Path | None,
    host: str,
    port: int,
    policy: str,
    bundle: str | None,
    calibration: Path | None,
    refusal: str,
    announce: str,
    passthrough: bool,
    upstream_key: str | None,
    max_request_bytes: int,
    max_response_bytes: int,
    connect_timeout_s: float,
    read_timeout_s: float,
    reload_s: float,
    threads: int | None,
    workers: int,
    allow_upstream: tuple[str, ...],
    keys: Path | None,
    log_format: str,
    audit: str | None,
    audit_days: float,
    audit_rows: int,
    audit_key_file: str | None,
    admin_port: int | None,
    admin_host: str,
    admin_token: str | None,
    **limits: float,
) -> None:
    """Run the proxy in front of an LLM API.

    \b
    guardrail serve --upstream https://api.openai.com
    OPENAI_BASE_URL=http://127.0.0.1:8000/v1 python my_app.py

    \b
    guardrail serve --upstream litellm --models models.yaml   # any provider LiteLLM knows
    models: {fast: {model: openai/gpt-4o-mini, api_key: os.environ/OPENAI_API_KEY}}

    Every option can be set as a variable, such as GUARDRAIL_UPSTREAM. /health/live,
    /health/ready and /metrics are served beside the API.
    """
    from guardrail.classifier import load_classifier
    from guardrail.classifier.base import Sample
    from guardrail.classifier.recalibrated import check_fit, recalibrate
    from guardrail.policy import load_policy
    from guardrail.proxy import Announce, Settings, serve
    from guardrail.proxy.logs import LogFormat, set_up
    from guardrail.proxy.models import load_models
    from guardrail.proxy.workers import Job, Supervisor
    from guardrail.wire import RefusalStyle

    settings = Settings(
        upstream=upstream,
        host=host,
        port=port,
        upstream_key=upstream_key,
        refusal=RefusalStyle(refusal),
        announce=Announce(announce),
        passthrough=passthrough,
        max_request_bytes=max_request_bytes,
        max_response_bytes=max_response_bytes,
        connect_timeout_s=connect_timeout_s,
        read_timeout_s=read_timeout_s,
        reload_s=reload_s,
        models=load_models(models) if models else None,
        audit=audit_settings(audit, audit_key_file, audit_days, audit_rows),
        admin=admin_settings(admin_port, admin_host, admin_token),
        allowed_upstreams=allow_upstream,
        keys=keys,
        limits=limits_from(limits),
    )
    level = logging.getLogger().level
    set_up(LogFormat(log_format), level)
    loaded = load_policy(policy)

    def started(port: int, model: str) -> None:
        click.secho(f"guardrail listens on http://{host}:{port}", bold=True)
        click.echo(f"  upstream {upstream}")
        click.echo(f"  policy   {loaded.identity}")
        click.echo(f"  model    {model}")
        click.echo(f"  audit    {settings.audit.place if settings.audit else 'none'}")
        if settings.admin:
            click.echo(f"  console  {admin_address(settings.admin, admin_token)}")
        if workers > 1:
            click.echo(f"  workers  {workers}")
        if passthrough:
            click.echo("  paths    what is not guarded passes unchecked (--no-passthrough refuses)")
        click.echo(f"  try      OPENAI_BASE_URL=http://{host}:{port}/v1")

    try:
        if workers > 1:
            check_fit(calibration, bundle)
            job = Job(settings, policy, bundle, threads, LogFormat(log_format), level, calibration)
            Supervisor(job, workers, started, _died).run()
            return
        classifier = recalibrate(load_classifier(bundle, threads=threads), calibration)
        classifier.score([Sample("The first pass is slower than the others.")])
        serve(settings, loaded, classifier, lambda port: started(port, classifier.model_id))
    except OSError as error:
        click.secho(
            f"guardrail: cannot listen on {host}:{port}: {error.strerror}", fg="red", err=True
        )
        raise SystemExit(EXIT_BAD_FILE) from error


def _died(code: int, wait_s: float) -> None:
    click.secho(
        f"guardrail: a worker ended with {code}; another starts in {wait_s:g} s",
        fg="red",
        err=True,
    )
