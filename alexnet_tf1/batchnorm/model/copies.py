"""Runs a graph in a session of its own, with the values that its variables have elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow.core.framework import op_def_pb2

from alexnet_tf1.batchnorm.model.source import VARIABLES, Array, variable_key
from alexnet_tf1.errors import UserError


class Copy:
    """A graph and its session; closing it frees both."""

    def __init__(self, graph_def: Any, op_defs: Mapping[str, Any], name: str) -> None:
        """Imports the graph.

        Args:
          graph_def: the graph.
          op_defs: definitions of the operations that its file carries.
          name: the model's, for messages.

        Raises:
          UserError: if this TensorFlow cannot import it.
        """
        self._name = name
        self._graph = tf.Graph()
        operations = op_def_pb2.OpList(op=op_defs.values()) if op_defs else None
        with self._graph.as_default():
            try:
                tf.import_graph_def(graph_def, name="", producer_op_list=operations)
            except (tf.errors.OpError, ValueError, TypeError, KeyError) as error:
                raise UserError(
                    f"{name}: this TensorFlow cannot run the graph ({_first_line(error)}); "
                    "export it from the TensorFlow that made it"
                ) from None
            self.variables: dict[str, tf.Operation] = {}
            for operation in self._graph.get_operations():
                if operation.type in VARIABLES:
                    self.variables.setdefault(variable_key(operation.node_def), operation)
            self._assigns = {key: self._assign(op) for key, op in self.variables.items()}
            self._reads = {key: self._read(op) for key, op in self.variables.items()}
        config = tf.ConfigProto(allow_soft_placement=True)
        self.session = tf.Session(graph=self._graph, config=config)

    def __enter__(self) -> Copy:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.session.close()

    def _assign(self, operation: tf.Operation) -> tuple[Any, Any]:
        """The placeholder and the operation that set a variable."""
        value = tf.placeholder(tf.as_dtype(operation.get_attr("dtype")).base_dtype)
        if operation.type == "VarHandleOp":
            return value, tf.raw_ops.AssignVariableOp(resource=operation.outputs[0], value=value)
        with self._graph.colocate_with(operation):
            assign = tf.raw_ops.Assign(ref=operation.outputs[0], value=value, validate_shape=False)
        return value, assign.op

    def _read(self, operation: tf.Operation) -> Any:
        handle = operation.outputs[0]
        if operation.type != "VarHandleOp":
            return handle
        name = f"{operation.name}/Read/ReadVariableOp"  # by this name TensorFlow freezes a graph
        try:
            return self._graph.get_tensor_by_name(f"{name}:0")
        except KeyError:
            dtype = operation.get_attr("dtype")
            return tf.raw_ops.ReadVariableOp(resource=handle, dtype=dtype, name=name)

    def set(self, values: Mapping[str, Array]) -> None:
        """Sets those of the variables that this graph has."""
        for key, value in values.items():
            if key in self._assigns:
                placeholder, assign = self._assigns[key]
                self._checked(assign, {placeholder: value})

    def values(self) -> dict[str, Array]:
        """Reads all variables."""
        found: dict[str, Array] = self._checked(self._reads, {})
        return {key: np.array(value) for key, value in found.items()}

    def shape(self, tensor: str) -> tf.TensorShape:
        """The static shape of a tensor."""
        return self._graph.get_tensor_by_name(tensor).shape

    def dtype(self, tensor: str) -> tf.DType:
        """The dtype of a tensor."""
        return self._graph.get_tensor_by_name(tensor).dtype.base_dtype

    def run(self, tensors: Sequence[str], feed: Mapping[str, Any]) -> list[Any]:
        """Computes tensors by their names.

        Raises:
          UserError: with the first line of what TensorFlow says against it.
        """
        known = {t.name for t in map(self._found, feed) if t is not None}
        found: list[Any] = self._checked(
            list(tensors), {name: value for name, value in feed.items() if name in known}
        )
        return found

    def frozen(self, outputs: Sequence[str]) -> Any:
        """Gives the part of the graph that these operations need, with constants for variables."""
        with self._graph.as_default():
            return tf.graph_util.convert_variables_to_constants(
                self.session, self._graph.as_graph_def(), list(outputs)
            )

    def _found(self, tensor: str) -> Any:
        """The tensor, or None where what is fetched does not need it and it was cut away."""
        try:
            return self._graph.get_tensor_by_name(tensor)
        except KeyError:
            return None

    def _checked(self, fetches: Any, feed: Mapping[Any, Any]) -> Any:
        try:
            return self.session.run(fetches, feed)
        except (tf.errors.OpError, ValueError, TypeError) as error:
            raise UserError(f"{self._name} cannot be run: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    lines = str(getattr(error, "message", "") or error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
