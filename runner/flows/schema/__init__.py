"""JSON Schema of flows, of their tests and of what stands beside them, made from the models that read them."""

from runner.flows.schema.document import defaults_schema, flow_schema, repository_schema, suite_schema, type_schema

__all__ = ["defaults_schema", "flow_schema", "repository_schema", "suite_schema", "type_schema"]
