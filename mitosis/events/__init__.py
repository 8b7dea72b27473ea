"""The event store: envelope, catalogue, the JetStream persistence module, the pipelined writer and the reader."""
