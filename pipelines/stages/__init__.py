"""The edge: each stage reads the store, calls one pure function, writes the store.

One module a DAG, one function a task. Arguments and results are small and JSON-able: keys, versions, URIs,
counts. The DAGs and `evergreen run` call the same functions.
"""
