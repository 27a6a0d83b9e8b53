"""A topic on librdkafka's mock cluster, ingested day by day while its stages are killed; see `__main__`."""
