"""What docs/howto/share.md says of Airflow's roles: a viewer reads, and a user starts runs."""

from __future__ import annotations

import pytest
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

MANAGER = SimpleAuthManager()
VIEWER, USER = (SimpleAuthManagerUser(username=role, role=role) for role in ("viewer", "user"))


@pytest.mark.parametrize("entity", [None, DagAccessEntity.RUN, DagAccessEntity.TASK_LOGS, DagAccessEntity.XCOM])
def test_a_viewer_reads_dags_and_changes_none(entity: DagAccessEntity | None) -> None:
    assert MANAGER.is_authorized_dag(method="GET", user=VIEWER, access_entity=entity)
    for method in ("POST", "PUT", "DELETE"):
        assert not MANAGER.is_authorized_dag(method=method, user=VIEWER, access_entity=entity), method
        assert MANAGER.is_authorized_dag(method=method, user=USER, access_entity=entity), method


def test_a_viewer_gets_at_no_secret() -> None:
    assert MANAGER.is_authorized_pool(method="GET", user=VIEWER)
    for of_operators in (MANAGER.is_authorized_connection, MANAGER.is_authorized_variable):
        assert not of_operators(method="GET", user=VIEWER) and not of_operators(method="GET", user=USER)
