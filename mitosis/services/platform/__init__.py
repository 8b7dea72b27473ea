"""The supervisor behind `mito up`: embedded servers and our own processes under one roof."""

from mitosis.services.platform.credentials import ADMIN_USER
from mitosis.services.platform.embedded_nats import EmbeddedNats
from mitosis.services.platform.embedded_postgres import EmbeddedPostgres
from mitosis.services.platform.embedded_s3 import EmbeddedS3, S3Keys
from mitosis.services.platform.options import (
    Child,
    PlatformSettings,
    ReadyCheck,
    ReadyNotice,
    RunningPlatform,
)
from mitosis.services.platform.running import run_platform, serve_platform
from mitosis.services.platform.supervisor import Platform

__all__ = [
    "ADMIN_USER",
    "Child",
    "EmbeddedNats",
    "EmbeddedPostgres",
    "EmbeddedS3",
    "Platform",
    "PlatformSettings",
    "ReadyCheck",
    "ReadyNotice",
    "RunningPlatform",
    "S3Keys",
    "run_platform",
    "serve_platform",
]
