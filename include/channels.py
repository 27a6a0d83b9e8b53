"""The notifiers of Airflow by which alerts go out: one for each channel of problem.yaml.

`notify` is called directly. Calling a notifier itself would render its text as a Jinja template, and what stands in an
alert comes out of the data: `{{ conn.x.password }}` in a CSV file would be filled in.
"""

from __future__ import annotations

from functools import cached_property
from importlib import import_module
from typing import Any

import httpx
from airflow.providers.smtp.hooks.smtp import SmtpHook
from airflow.providers.smtp.notifications.smtp import SmtpNotifier
from airflow.sdk import BaseNotifier, Connection

from pipelines import alerts
from pipelines.alerts import Alert, Judgement
from pipelines.config import Channel
from pipelines.errors import AccessError, ConfigError, ServiceUnavailable

TIMEOUT_S = 10


def notifier(channel: Channel, alert: Alert, judged: Judgement) -> BaseNotifier:
    """What sends `alert` to `channel`, by its `notify`."""
    if channel.webhook:
        return WebhookNotifier(channel.webhook, dict(alerts.payload(alert, judged)))
    if channel.slack:
        provider = import_module("airflow.providers.slack.notifications.slack_webhook")  # installed where it is wanted
        text = alerts.slack(alert, judged)
        sender: BaseNotifier = provider.SlackWebhookNotifier(
            slack_webhook_conn_id=channel.slack, text=text, timeout=TIMEOUT_S
        )
        return sender
    return EmailNotifier(to=channel.email or [], subject=alert.subject, html_content=alerts.html(alert, judged))


class WebhookNotifier(BaseNotifier):
    """Posts JSON to the address that a connection holds.

    Raises:
        ConfigError: the connection holds no address.
        AccessError: the receiver refuses the credentials.
        ServiceUnavailable: no answer in time, or none that says the message was taken; a redirect is not followed.
    """

    def __init__(self, connection: str, message: dict[str, Any]) -> None:
        super().__init__()
        self.connection = connection
        self.message = message

    def notify(self, context: Any) -> None:
        where = f"connection {self.connection}"
        found = Connection.get(self.connection)
        url, headers = address(found), {}
        if found.host and "://" in found.host:
            headers = {name: str(value) for name, value in found.extra_dejson.items()}
        auth = (found.login, found.password or "") if found.login else None
        if found.password and not found.login:
            headers["Authorization"] = f"Bearer {found.password}"
        try:
            answer = httpx.post(url, json=self.message, headers=headers, auth=auth, timeout=TIMEOUT_S)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            # Neither its text nor itself: the address in them may be the secret.
            raise ServiceUnavailable(
                f"no answer ({type(error).__name__})", where=where, cure="is the receiver up, and its address right?"
            ) from None
        if answer.status_code in (401, 403):
            raise AccessError(
                f"the receiver answers {answer.status_code}", where=where, cure="mend the connection's login or address"
            )
        if not answer.is_success:
            raise ServiceUnavailable(
                f"the receiver answers {answer.status_code}", where=where, cure="look at the receiver's own log"
            )


class EmailNotifier(SmtpNotifier):
    """Airflow's own, but it gives up sooner: its connection's defaults are 30 s a try, and six tries."""

    @cached_property
    def hook(self) -> SmtpHook:
        return _HastyHook(smtp_conn_id=self.smtp_conn_id, auth_type=self.auth_type)


class _HastyHook(SmtpHook):
    @property
    def timeout(self) -> int:
        return min(super().timeout, TIMEOUT_S)

    @property
    def smtp_retry_limit(self) -> int:
        return 0


def address(connection: Connection) -> str:
    """The URL that a connection stands for, whichever way it was written down.

    >>> address(Connection(conn_id="ops", uri="https://ops.example.com/hooks/7?key=abc"))
    'https://ops.example.com/hooks/7?key=abc'
    >>> address(Connection(conn_id="ops", conn_type="http", host="https://ops.example.com/hooks/7?key=abc"))
    'https://ops.example.com/hooks/7?key=abc'
    >>> address(Connection(conn_id="ops", conn_type="http", host="ops.example.com", schema="https", port=8443))
    'https://ops.example.com:8443'

    Raises:
        ConfigError: it holds no host, or its type is not one of http and https.
    """
    host, path = connection.host or "", connection.schema or ""
    protocol = path if path in ("http", "https") else connection.conn_type
    path = "" if path in ("http", "https") else path
    if "://" in host:
        protocol, _, host = host.partition("://")
    if not host or protocol not in ("http", "https"):
        raise ConfigError(
            "it holds no address to post to",
            where=f"connection {connection.conn_id}",
            cure="give it the type http and the receiver's whole URL as host",
        )
    url = httpx.URL(f"{protocol}://{host}")
    if connection.port:
        url = url.copy_with(port=connection.port)
    if path:
        url = url.copy_with(path=f"{url.path.rstrip('/')}/{path}")
    if connection.extra and "://" not in (connection.host or ""):  # Airflow keeps a URI's query there
        url = url.copy_merge_params(connection.extra_dejson)
    return str(url)
