"""Connections, request/reply, server configuration and the authentication callout."""
