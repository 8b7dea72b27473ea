"""Logins, sessions, tokens and the permissions of each connection."""
