"""JSON Schema of flows, made from the models that read them."""

from runner.flows.schema.document import flow_schema, type_schema

__all__ = ["flow_schema", "type_schema"]
