"""JSON Schema of flows and of their tests, made from the models that read them."""

from runner.flows.schema.document import defaults_schema, flow_schema, suite_schema, type_schema

__all__ = ["defaults_schema", "flow_schema", "suite_schema", "type_schema"]
