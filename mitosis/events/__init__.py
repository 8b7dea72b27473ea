"""The event store: envelope, catalogue, persistence on JetStream, writer and reader."""
