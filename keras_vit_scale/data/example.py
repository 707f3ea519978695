"""TensorFlow's `tf.train.Example`, read without TensorFlow."""

from functools import cache
from typing import Any


def parse_example(record: bytes) -> dict[str, list[Any]]:
    """The features of a serialised `tf.train.Example`: lists of bytes, floats or integers by name.

    Raises:
        ValueError: If it is none.

    Source: tensorflow/core/example/example.proto and feature.proto.
    """
    from google.protobuf.message import DecodeError

    example = _message()()
    try:
        example.ParseFromString(record)
    except DecodeError as error:
        raise ValueError(f"it is no tf.train.Example: {error}") from error
    found = {}
    for name, feature in example.features.feature.items():
        kind = feature.WhichOneof("kind")
        found[name] = list(getattr(feature, kind).value) if kind else []
    return found


@cache
def _message():
    """The class of the message, made from its description: no generated file is needed."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    field = descriptor_pb2.FieldDescriptorProto
    package = "keras_vit_scale.example"
    file = descriptor_pb2.FileDescriptorProto(
        name="keras_vit_scale/example.proto", package=package, syntax="proto3"
    )

    def add(name, *fields):
        message = file.message_type.add(name=name)
        for number, (called, kind, of, repeated) in enumerate(fields, 1):
            label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
            message.field.add(
                name=called,
                number=number,
                type=kind,
                label=label,
                type_name=f".{package}.{of}" if of else None,
            )
        return message

    add("BytesList", ("value", field.TYPE_BYTES, None, True))
    add("FloatList", ("value", field.TYPE_FLOAT, None, True))
    add("Int64List", ("value", field.TYPE_INT64, None, True))
    lists = (("bytes_list", "BytesList"), ("float_list", "FloatList"), ("int64_list", "Int64List"))
    feature = add("Feature", *((n, field.TYPE_MESSAGE, of, False) for n, of in lists))
    feature.oneof_decl.add(name="kind")
    for one in feature.field:
        one.oneof_index = 0
    features = add("Features", ("feature", field.TYPE_MESSAGE, "Features.Entry", True))
    entry = features.nested_type.add(name="Entry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    entry.field.add(
        name="value", number=2, type=field.TYPE_MESSAGE, label=field.LABEL_OPTIONAL,
        type_name=f".{package}.Feature",
    )  # fmt: skip
    add("Example", ("features", field.TYPE_MESSAGE, "Features", False))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.Example"))
