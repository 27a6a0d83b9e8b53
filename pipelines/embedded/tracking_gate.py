"""What of MLflow's server is open: tracking, the model registry, their artifacts, and logins.

MLflow's server does more than that for anyone with a login: its assistant runs commands, its jobs and scorers run
code, its gateway, webhooks and jobs call other servers with secrets that it keeps. Nothing here uses these, so a
request gets through by being on the list below; a route of a later MLflow is closed until it is added.

The server also reads and writes, with its own rights, wherever an experiment or a model version says that its
artifacts lie. Here that is the server's own storage alone (`own_artifacts_only`). And a login that may only read could
make an experiment or a model of its own, with any name; here it takes an admin (`only_admins_create`).

Where the storage is an S3 server, MLflow sends its clients there, by addresses at which the server itself reaches it. A
client elsewhere may reach none of them, and tries for minutes; here all files pass through the server
(`artifacts_by_way_of_us`).
"""

from __future__ import annotations

import re

from pipelines.embedded.asgi import App, Message, Receive, Send, json_answer
from pipelines.embedded.login_tries import LoginTries, basic_try

TAGGED = "create|delete|delete-tag|get|search|set-tag|update"
ACTIONS = {
    "experiments": "create|delete|delete-experiment-tag|get|get-by-name|restore|search|search-datasets"
    "|set-experiment-tag|update",
    "runs": f"{TAGGED}|log-batch|log-inputs|log-metric|log-model|log-parameter|outputs|restore",
    "metrics": "get-history|get-history-bulk|get-history-bulk-interval",
    "registered-models": f"{TAGGED}|alias|get-latest-versions|rename",
    "model-versions": f"{TAGGED}|get-download-uri|transition-stage",
    "artifacts": "list",
    "users": "create|create-ui|current|delete|get|list|update-admin|update-password",
}
LOGGED_MODELS = r"logged-models(/[^/]+(/(params|tags(/[^/]+)?|artifacts/(directories|files)))?)?"
ROLES = (
    r"roles/(create|get|list|update|delete|assign|unassign|users/list|permissions/(add|remove|list|update))"
    r"|users/(current/permissions|roles/list|permissions/(list|grant|revoke|get))"
)
ARTIFACTS = r"artifacts(/.+)?|(mpu/(abort|complete|create)|presigned)/.+"
_ACTIONS = "|".join(f"{family}/({actions})" for family, actions in ACTIONS.items())

OPEN = re.compile(
    r"/(health|version|signup|graphql|get-artifact|model-versions/get-artifact|static-files/.+)?"
    rf"|/(ajax-)?api/2\.0/mlflow/({_ACTIONS}|{LOGGED_MODELS})"
    rf"|/(ajax-)?api/2\.0/mlflow-artifacts/({ARTIFACTS})"
    rf"|/(ajax-)?api/3\.0/mlflow/(server-info|{ROLES})"
)

# The assistant's button and panel, which the UI shows whatever the server answers, are hidden. Which view an experiment
# opens in, the UI keeps in the browser; where nobody has chosen yet it is that for language models, which is empty.
ADDED_TO_HEAD = (
    b"<style>[data-assistant-ui]{display:none!important}</style>"
    b"<script>try{localStorage['mlflow.workflowType_v1']??='\"machine_learning\"'}catch{}</script></head>"
)

# What the UI asks for by itself, of parts that are closed: it gets an answer that says that there is nothing, since an
# error would stand in the browser's console on every page.
NOTHING: dict[str, dict[str, object]] = {
    "/ajax-api/3.0/mlflow/assistant/config": {"providers": {}, "projects": {}, "remote_access_allowed": False},
    "/ajax-api/3.0/mlflow/assistant/providers": {"providers": [], "resolved": None, "gateway_vendor_options": {}},
    "/ajax-api/2.0/mlflow/gateway-proxy": {"endpoints": []},
}


def is_open(path: str) -> bool:
    """Whether requests to a path get through.

    >>> is_open("/api/2.0/mlflow/runs/search"), is_open("/ajax-api/3.0/mlflow/assistant/config")
    (True, False)
    """
    # A second slash, a dot or a control character can mean another path to a router than to this list.
    return OPEN.fullmatch(path) is not None and not re.search(r"//|/\.\.?(/|$)|[\x00-\x1f\\]", path)


class Gate:
    """ASGI middleware around MLflow's server: 403 for what is not on the list, and a UI that opens on the runs."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http" and is_open(scope["path"]):
            await self.app(scope, receive, _adapted(send) if scope["path"] == "/" else send)
        elif scope["type"] == "http" and scope["method"] == "GET" and scope["path"] in NOTHING:
            for message in json_answer(200, NOTHING[scope["path"]]):
                await send(message)
        elif scope["type"] == "http":
            text = f"{scope['path']} is closed: this server keeps runs and models, and does nothing else"
            for message in json_answer(403, {"error_code": "PERMISSION_DENIED", "message": text}):
                await send(message)
        else:
            await send({"type": "websocket.close", "code": 1000})


def _adapted(send: Send) -> Send:
    """The UI's page, without the assistant and with the view of model training as what an experiment opens in."""
    start: Message = {}
    page = bytearray()

    async def send_page(message: Message) -> None:
        if message["type"] == "http.response.start":
            start.update(message)
            return
        page.extend(message.get("body", b""))
        if message.get("more_body"):
            return
        body = bytes(page).replace(b"</head>", ADDED_TO_HEAD, 1)
        kept = [pair for pair in start["headers"] if pair[0].lower() not in (b"content-length", b"etag")]
        await send({**start, "headers": [*kept, (b"content-length", str(len(body)).encode())]})
        await send({"type": "http.response.body", "body": body})

    return send_page


def own_artifacts_only() -> None:
    """From now on MLflow's handlers open no artifacts but those in the server's own storage."""
    from mlflow.exceptions import MlflowException
    from mlflow.server import handlers

    open_repository = handlers._get_artifact_repository_for_uri

    def open_own(artifact_uri: str) -> object:
        if not artifact_uri.startswith("mlflow-artifacts:"):
            raise MlflowException.invalid_parameter_value(f"{artifact_uri} is not in this server's storage")
        return open_repository(artifact_uri)

    def refuse(value: str, field_name: str) -> str:
        raise MlflowException.invalid_parameter_value(
            f"{field_name} {value!r}: this server chooses where artifacts lie; leave it out"
        )

    handlers._get_artifact_repository_for_uri = open_own
    handlers._validate_storage_location_uri = refuse


def only_admins_create() -> None:
    """From now on nobody else makes an experiment or a registered model: who makes one may do all with it, and a model
    with a problem's name would be that problem's."""
    from mlflow.server import auth

    auth._can_create_in_workspace = lambda username: False  # admins are let through before anybody asks


def artifacts_by_way_of_us() -> None:
    """From now on the server hands out no addresses of its storage, nor tells clients that it would."""
    from mlflow.server import handlers

    class Storage:
        """What no storage is, where MLflow asks whether one could be reached by others."""

    handlers.MultipartDownloadMixin = handlers.MultipartUploadMixin = Storage


def create_app() -> App:
    """MLflow's server with logins, whose failures are limited, behind the gate; what uvicorn runs."""
    from mlflow.server.auth import create_app as create_mlflow

    own_artifacts_only()
    only_admins_create()
    artifacts_by_way_of_us()
    return Gate(LoginTries(create_mlflow(), basic_try))
